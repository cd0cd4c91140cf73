"""Loads what was exported, in a fresh process, and compares its answers with numpy.

    python -m trainer.verify STAGING_DIR EXPECTED.npz

Prints a JSON object of measurements for each model; ends with 1 and a reason if a
model answers wrongly.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving_contract import (
    ASSETS_EXTRA,
    BY_HISTORY,
    BY_ITEM,
    BY_USER,
    BY_USER_AND_HISTORY,
    HISTORY,
    ITEM_ID,
    KNOWN,
    RETRIEVAL,
    RETRIEVAL_EXACT,
    SCORE,
    SERVING_DEFAULT,
    USER_ID,
    WARMUP_REQUESTS,
    K,
)
from trainer.data.histories import Histories
from trainer.export import Servable

_K = 100
_QUERIES = 512
_RECENT = 3
_UNKNOWN_ID = "\x00 nobody"
# Of the score matrix of a batch of questions: 128 MB of float32.
_SCORES_AT_ONCE = 32_000_000


class VerificationError(Exception):
    """An exported model does not answer as it must."""


def verify(staging: Path, servable: Servable) -> dict[str, Any]:
    """Check ``staging/retrieval`` and ``staging/retrieval_exact`` in a fresh process.

    Up to 512 of the known users are asked for.

    Args:
        staging: the directory that holds both.
        servable: what was exported.

    Returns:
        by model name: ``recall_at_100`` against the exact answer, of users.

    Raises:
        VerificationError: with the reason.
    """
    with tempfile.TemporaryDirectory() as scratch:
        expected = Path(scratch) / "expected.npz"
        arrays: dict[str, Any] = questions(servable)
        np.savez(expected, **arrays)
        done = subprocess.run(
            [sys.executable, "-m", "trainer.verify", str(staging), str(expected)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise VerificationError(lines[-1])
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def questions(servable: Servable) -> dict[str, NDArray[Any]]:
    """What ``EXPECTED.npz`` holds: questions, and NumPy's query vectors for them."""
    users = np.arange(0, len(servable.user_ids), max(1, len(servable.user_ids) // _QUERIES))
    users = users[:_QUERIES]
    stored = servable.histories.take(users)
    recent = np.random.default_rng(0).integers(
        len(servable.item_ids), size=(len(users), _RECENT), dtype=np.int32
    )
    # Some send an item twice, of which the last counts; some send fewer.
    recent[::2, 0] = recent[::2, 2]
    recent[::3, 1] = -1
    alone = [list(dict.fromkeys(item for item in new[::-1] if item >= 0))[::-1] for new in recent]
    joined = [
        [*(item for item in old if item not in new), *new]
        for old, new in zip(np.split(stored.items, stored.offsets[1:-1]), alone, strict=True)
    ]
    return {
        "user_ids": servable.user_ids[users].astype(str),
        "history": np.where(recent < 0, "", servable.item_ids[recent]).astype(str),
        "queries": servable.query.embed(stored, users),
        "history_queries": servable.query.embed(_histories(alone)),
        "joined_queries": servable.query.embed(_histories(joined), users),
        "uses_history": np.array(servable.query.item_vectors is not None),
        "vectors": servable.candidate_vectors,
        "item_queries": (
            servable.candidate_vectors if servable.item_queries is None else servable.item_queries
        ),
        "item_ids": servable.item_ids.astype(str),
        "popularity": servable.popularity,
    }


def _histories(lists: list[list[int]]) -> Histories:
    lengths = [len(one) for one in lists]
    items = np.array([item for one in lists for item in one], np.int32)
    return Histories(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items)


def main(staging: Path, expected: Path) -> dict[str, Any]:
    """What the fresh process does: measurements by model name."""
    with np.load(expected) as file:
        truth = dict(file)
    exact = _check(staging / RETRIEVAL_EXACT, truth, exact=True)
    scann = _check(staging / RETRIEVAL, truth, exact=False)
    found = [
        len(np.intersect1d(a[a != b""], b[b != b""])) / int(np.count_nonzero(b != b""))
        for a, b in zip(scann, exact, strict=True)
    ]
    return {
        RETRIEVAL: {"recall_at_100": float(np.mean(found)), "queries": len(found)},
        RETRIEVAL_EXACT: {"recall_at_100": 1.0, "queries": len(found)},
    }


def _check(directory: Path, truth: dict[str, Any], *, exact: bool) -> NDArray[np.bytes_]:
    """Ask one model everything; the item ids it gives the users, bytes [B, 100]."""
    model = _Model(directory, truth, exact=exact)
    users, items = truth["user_ids"], truth["item_ids"]
    answer = model.ask(BY_USER, {USER_ID: users})
    _require(bool(answer[KNOWN].all()), model.name, "a known user is not known")
    model.check_scores(BY_USER, answer, truth["queries"])
    default = model.ask(SERVING_DEFAULT, {USER_ID: users})
    _require(
        np.array_equal(default[ITEM_ID], answer[ITEM_ID]),
        model.name,
        "serving_default is not by_user",
    )
    joined = model.ask(BY_USER_AND_HISTORY, {USER_ID: users, HISTORY: truth["history"]})
    model.check_scores(BY_USER_AND_HISTORY, joined, truth["joined_queries"])
    recent = model.ask(BY_HISTORY, {HISTORY: truth["history"]})
    if truth["uses_history"]:
        model.check_scores(BY_HISTORY, recent, truth["history_queries"])
    else:
        model.check_popular(BY_HISTORY, recent)
    nobody = np.array([_UNKNOWN_ID])
    model.check_popular(BY_USER, model.ask(BY_USER, {USER_ID: nobody}))
    model.check_popular(BY_HISTORY, model.ask(BY_HISTORY, {HISTORY: nobody[:, None]}))

    step = max(1, len(items) // 64)
    some = items[::step][:64]
    similar = model.ask(BY_ITEM, {ITEM_ID: np.append(some, nobody)})
    _require(
        bool(similar[KNOWN][:-1].all() and not similar[KNOWN][-1]), model.name, "by_item: known"
    )
    _require(
        bool((similar[ITEM_ID][-1] == b"").all()), model.name, "an unknown item is answered for"
    )
    itself = similar[ITEM_ID][:-1] == np.char.encode(some, "utf-8")[:, None]
    _require(not itself.any(), model.name, "by_item returns the item itself")
    model.check_scores(
        BY_ITEM,
        {key: value[:-1] for key, value in similar.items()},
        truth["item_queries"][::step][:64],
        without=np.arange(len(items))[::step][:64],
    )
    warmup = directory / ASSETS_EXTRA / WARMUP_REQUESTS
    records = sum(1 for _ in tf.data.TFRecordDataset(str(warmup)))
    _require(records > 0, model.name, "no warm-up requests")
    result: NDArray[np.bytes_] = answer[ITEM_ID]
    return result


class _Model:
    """A loaded SavedModel, and what NumPy says of its catalogue."""

    def __init__(self, directory: Path, truth: dict[str, Any], *, exact: bool) -> None:
        import scann  # noqa: F401  (registers the ops)

        self.name = directory.name
        self._exact = exact
        self._truth = truth
        self._row_of = {item.encode("utf-8"): row for row, item in enumerate(truth["item_ids"])}
        self._row_of[b""] = -1
        # Held on to: its variables live as long as it does.
        self._loaded = tf.saved_model.load(str(directory))

    def ask(self, signature: str, inputs: dict[str, NDArray[np.str_]]) -> dict[str, NDArray[Any]]:
        answers = [
            self._ask(signature, {name: ids[some] for name, ids in inputs.items()})
            for some in self._in_parts(len(next(iter(inputs.values()))))
        ]
        return {key: np.concatenate([one[key] for one in answers]) for key in answers[0]}

    def check_scores(
        self,
        signature: str,
        answer: dict[str, NDArray[Any]],
        queries: NDArray[np.float32],
        without: NDArray[np.int64] | None = None,
    ) -> None:
        """The scores are NumPy's, no candidate comes twice; of an exact model, they are the best.

        ``without``, int [B], is an item per query that must not count.
        """
        for some in self._in_parts(len(queries)):
            self._check_scores(
                signature,
                {key: value[some] for key, value in answer.items()},
                queries[some],
                None if without is None else without[some],
            )

    def check_popular(self, signature: str, answer: dict[str, NDArray[Any]]) -> None:
        """Nothing is known of the queries: they get the most popular items."""
        popular = -np.sort(-self._truth["popularity"])[:_K]
        self._require(not answer[KNOWN].any(), f"{signature}: an unknown id is known")
        self._require(
            bool((answer[SCORE][:, : len(popular)] == popular).all()),
            f"{signature}: unknown ids do not get the popular items",
        )

    def _in_parts(self, rows: int) -> list[slice]:
        """Rows that the catalogue is scored for at once: the larger it is, the fewer."""
        at_once = max(1, _SCORES_AT_ONCE // len(self._truth["vectors"]))
        return [slice(start, start + at_once) for start in range(0, rows, at_once)]

    def _ask(self, signature: str, inputs: dict[str, NDArray[np.str_]]) -> dict[str, NDArray[Any]]:
        rows = len(next(iter(inputs.values())))
        tensors = {name: tf.constant(ids.tolist(), tf.string) for name, ids in inputs.items()}
        answer = self._loaded.signatures[signature](**tensors, **{K: tf.fill([rows], _K)})
        return {key: value.numpy() for key, value in answer.items()}

    def _check_scores(
        self,
        signature: str,
        answer: dict[str, NDArray[Any]],
        queries: NDArray[np.float32],
        without: NDArray[np.int64] | None,
    ) -> None:
        scores = queries @ self._truth["vectors"].T
        if without is not None:
            scores[np.arange(len(scores)), without] = -np.inf
        rows = self._rows(answer[ITEM_ID])
        given = np.where(rows >= 0, np.take_along_axis(scores, np.maximum(rows, 0), 1), -np.inf)
        self._require(
            np.allclose(given, answer[SCORE], rtol=1e-3, atol=1e-3),
            f"{signature}: scores differ from numpy's",
        )
        self._require(
            all(len(set(r[r >= 0])) == (r >= 0).sum() for r in rows),
            f"{signature}: a duplicate candidate",
        )
        if self._exact:
            width = min(_K, scores.shape[1])
            best = -np.sort(-scores, axis=1)[:, :width]
            self._require(
                np.allclose(best, given[:, :width], rtol=1e-4, atol=1e-4),
                f"{signature}: not the true top k",
            )

    def _rows(self, ids: NDArray[np.object_]) -> NDArray[np.int64]:
        """Positions of ids, bytes [B, K], in the catalogue; -1 for filler."""
        return np.array([[self._row_of[one] for one in line] for line in ids], np.int64)

    def _require(self, holds: bool, what: str) -> None:
        _require(holds, self.name, what)


def _require(holds: bool, model: str, what: str) -> None:
    if not holds:
        raise VerificationError(f"{model}: {what}")


if __name__ == "__main__":
    try:
        measurements = main(Path(sys.argv[1]), Path(sys.argv[2]))
    except VerificationError as failure:
        sys.exit(str(failure))
    sys.stdout.write(json.dumps(measurements) + "\n")
