"""Queries exported exact models for the items that the models recommend to given users."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving_contract import BY_USER, ITEM_ID, KNOWN, USER_ID
from trainer.errors import VerificationError
from trainer.probe.loaded_model import LoadedModel
from trainer.probe.protocol import Message, run_in_fresh_process

CHECK = "rankings"


@dataclass(frozen=True, eq=False)
class Rankings:
    """One model's candidates for U users.

    Attributes:
        items: int32 [total], rows of the given catalogue, user after user, best first. Items
            that are not in that catalogue are left out.
        offsets: int64 [U + 1], where each user's items begin and end.
        known: bool [U], True for users that the model knows.
    """

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    known: NDArray[np.bool_]

    def of_user(self, user: int) -> NDArray[np.int32]:
        """Return the items of the user at position ``user``, best first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]


def rank(
    models: Sequence[Path],
    user_ids: NDArray[np.object_],
    depths: NDArray[np.int64],
    item_ids: NDArray[np.object_],
) -> list[Rankings]:
    """Return the rankings of each model, in the order of ``models``.

    A fresh process queries one model after another.

    Args:
        models: the directories of the models.
        user_ids: str objects [U].
        depths: int64 [U], the number of candidates to request for each user.
        item_ids: str objects [N], the catalogue to which the rows in the rankings refer.

    Raises:
        VerificationError: a model cannot be loaded, or cannot answer queries by user.
    """
    values = {"check": CHECK, "models": [str(model.absolute()) for model in models]}
    arrays = {
        "user_ids": user_ids.astype(str),
        "depths": depths,
        "item_ids": pa.array(item_ids, pa.large_string()),
    }
    try:
        response = run_in_fresh_process(Message(values, arrays)).arrays
    except VerificationError as error:
        raise VerificationError(f"the exact index cannot be asked: {error}") from error
    return [
        Rankings(response[f"items_{n}"], response[f"offsets_{n}"], response[f"known_{n}"])
        for n in range(len(models))
    ]


def answer(request: Message) -> Message:
    """Answer the request in the fresh process: return the rankings of every model."""
    ids = request.arrays["item_ids"].cast(pa.large_binary()).to_pylist()
    rows = {item: row for row, item in enumerate(ids)}
    user_ids, depths = request.arrays["user_ids"], request.arrays["depths"]
    arrays: dict[str, NDArray[Any]] = {}
    for number, model in enumerate(request.values["models"]):
        rankings = _rankings(Path(model), user_ids, depths, rows)
        arrays |= {f"{name}_{number}": array for name, array in vars(rankings).items()}
    return Message({}, arrays)


def _rankings(
    directory: Path, user_ids: NDArray[np.str_], depths: NDArray[np.int64], rows: dict[bytes, int]
) -> Rankings:
    model = LoadedModel(directory, str(directory), len(rows))
    lists: list[list[int]] = [[] for _ in user_ids]
    known = np.zeros(len(user_ids), bool)
    # Users with similar depths share a batch, so that the answers contain little filler.
    order = np.argsort(depths, kind="stable")
    for batch in model.batches(len(order), int(depths.max(initial=1))):
        users = order[batch]
        answer = model.ask_batch(BY_USER, {USER_ID: user_ids[users]}, depths[users])
        known[users] = answer[KNOWN]
        for user, items in zip(users, answer[ITEM_ID], strict=True):
            lists[user] = [rows[item] for item in items if item in rows]
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    items = np.array([item for ranking in lists for item in ranking], np.int32)
    return Rankings(items, offsets, known)
