"""Asks exported exact models for users, in a fresh process: what they would really serve.

python -m trainer.probe.user_answers QUESTIONS.npz ANSWERS.npz
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving_contract import BY_USER, ITEM_ID, KNOWN, USER_ID, K
from trainer.probe import fresh_process

# Of the score matrix of a batch of questions: 128 MB of float32.
_SCORES_AT_ONCE = 32_000_000
_IDS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class Answers:
    """One model's answers for U users.

    Attributes:
        items: int32 [the sum of the counts], positions in the catalogue asked with, of
            one user after the other, best first. What is not in it is left out.
        offsets: int64 [U + 1], where each user's items begin.
        known: bool [U].
    """

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    known: NDArray[np.bool_]

    def of(self, user: int) -> NDArray[np.int32]:
        """The items of one user, best first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]


def ask(
    models: Sequence[Path],
    user_ids: NDArray[np.object_],
    depths: NDArray[np.int64],
    item_ids: NDArray[np.object_],
) -> list[Answers]:
    """Ask one SavedModel after the other.

    Args:
        models: their directories.
        user_ids: str objects [U].
        depths: int64 [U], how many candidates to ask for.
        item_ids: str objects [N], the catalogue to tell the answers in.

    Raises:
        VerificationError: a model cannot be loaded or asked.
    """
    with tempfile.TemporaryDirectory() as scratch:
        questions, answers = Path(scratch) / "questions.npz", Path(scratch) / "answers.npz"
        np.savez(
            questions,
            models=np.array([str(model.absolute()) for model in models]),
            user_ids=user_ids.astype(str),
            depths=depths,
            item_ids=item_ids.astype(str),
        )
        fresh_process.run(
            *("trainer.probe.user_answers", str(questions), str(answers)),
            about="asking the exact index: ",
        )
        with np.load(answers) as file:
            return [
                Answers(file[f"items_{at}"], file[f"offsets_{at}"], file[f"known_{at}"])
                for at in range(len(models))
            ]


def main(questions: Path, answers: Path) -> None:
    """What the fresh process does."""
    with np.load(questions) as file:
        asked = dict(file)
    position = {item.encode("utf-8"): at for at, item in enumerate(asked["item_ids"].tolist())}
    result: dict[str, Any] = {}
    for at, model in enumerate(asked["models"].tolist()):
        lists, known = _answers(model, asked["user_ids"], asked["depths"], position)
        result |= {
            f"items_{at}": np.concatenate([*lists, np.zeros(0, np.int32)]).astype(np.int32),
            f"offsets_{at}": np.cumsum([0, *map(len, lists)]),
            f"known_{at}": known,
        }
    np.savez(answers, **result)


def _answers(
    model: str,
    user_ids: NDArray[np.str_],
    depths: NDArray[np.int64],
    position: dict[bytes, int],
) -> tuple[list[NDArray[np.int32]], NDArray[np.bool_]]:
    import tensorflow as tf

    # Held on to: its variables live as long as it does.
    loaded = tf.saved_model.load(model)
    if BY_USER not in loaded.signatures:
        sys.exit(f"it has no signature {BY_USER}")
    by_user = loaded.signatures[BY_USER]
    lists: list[NDArray[np.int32]] = [np.zeros(0, np.int32)] * len(user_ids)
    known = np.zeros(len(user_ids), bool)
    # Those who are asked alike deep together, so that little of a batch is filler.
    order = np.argsort(depths, kind="stable")
    deepest = int(depths.max(initial=1))
    at_once = max(1, min(_SCORES_AT_ONCE // max(1, len(position)), _IDS_AT_ONCE // deepest))
    for start in range(0, len(order), at_once):
        users = order[start : start + at_once]
        answer = by_user(
            **{
                USER_ID: tf.constant(user_ids[users].tolist(), tf.string),
                K: tf.constant(depths[users], tf.int32),
            }
        )
        known[users] = answer[KNOWN].numpy()
        for user, ids in zip(users, answer[ITEM_ID].numpy(), strict=True):
            rows = [position[one] for one in ids if one in position]
            lists[user] = np.array(rows, np.int32)
    return lists, known


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
