"""Loads what was exported, in a fresh process, and compares its answers with NumPy's.

    python -m trainer.verify STAGING_DIR QUESTIONS_DIR

Prints a JSON object of measurements for each model; ends with 1 and a reason if a
model answers wrongly.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.feather
import tensorflow as tf
from numpy.typing import NDArray

from serving_contract import (
    ASSETS_EXTRA,
    BY_HISTORY,
    BY_ITEM,
    BY_USER,
    BY_USER_AND_HISTORY,
    BY_VECTOR,
    HISTORY,
    ITEM_ID,
    KNOWN,
    RETRIEVAL,
    RETRIEVAL_EXACT,
    SCORE,
    SERVING_DEFAULT,
    USER_ID,
    VECTOR,
    WARMUP_REQUESTS,
    K,
)
from trainer.data.histories import Histories
from trainer.export import Servable, VectorServable
from trainer.index.recall import recall
from trainer.lifecycle.errors import VerificationError

_K = 100
#: Recall is measured at these k, where the catalogue has as many items.
RECALL_KS = (10, 100, 1_000)
_MOST_QUERIES = 512
# The score matrices that NumPy computes have so many entries in all, and at once (128 MB).
_MOST_SCORES = 1_000_000_000
_SCORES_AT_ONCE = 32_000_000
# So many answers are timed, in so many seconds at the most.
_TIMED = {1: 200, 32: 50}
_TIMED_SECONDS = 3.0
_RECENT = 3
_UNKNOWN_ID = "\x00 nobody"
_IDS = "item_ids"


def verify(
    staging: Path, servable: VectorServable, queries: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """Check ``staging/retrieval`` and ``staging/retrieval_exact`` in a fresh process.

    Args:
        staging: the directory that holds both.
        servable: what was exported.
        queries: float32 [M, D], for ``by_vector``, of which up to 512 are asked; without them
            the query vectors of known users, or of items.

    Returns:
        by model name: ``recall_at_10``, ``_100`` and ``_1000`` of the queries and
        ``by_item_recall_at_100``, or as many as there are, against the exact answer;
        ``milliseconds`` of one query and ``queries_per_second_of_32``, through the exported
        signature; how many ``queries``.

    Raises:
        VerificationError: with the reason.
    """
    with tempfile.TemporaryDirectory() as scratch:
        write_questions(servable, Path(scratch), queries)
        done = subprocess.run(
            [sys.executable, "-m", "trainer.verify", str(staging), scratch],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise VerificationError(lines[-1])
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def asked(count: int, items: int) -> NDArray[np.int64]:
    """Which of ``count`` users or items are asked for, where there are so many items."""
    most = max(32, min(_MOST_QUERIES, _MOST_SCORES // items))
    return np.arange(0, count, max(1, -(-count // most)))


def write_questions(
    servable: VectorServable, directory: Path, queries: NDArray[np.float32] | None = None
) -> None:
    """What ``QUESTIONS_DIR`` holds: questions, and NumPy's query vectors for them."""
    items = len(servable.item_ids)
    some = asked(items, items)
    vectors = servable.candidate_vectors
    similar = vectors if servable.item_queries is None else servable.item_queries
    # A file for each array: the large ones are mapped, not read.
    arrays: dict[str, NDArray[Any]] = {
        "vectors": vectors,
        "items": some,
        "item_queries": similar[some],
        "queries": vectors[some] if queries is None else queries[asked(len(queries), items)],
    }
    if isinstance(servable, Servable):
        arrays |= _questions_of_users(servable)
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array)
    ids = pa.table({_IDS: pa.array(servable.item_ids).cast(pa.large_binary())})
    pyarrow.feather.write_feather(ids, str(directory / _IDS), compression="uncompressed")


def _questions_of_users(servable: Servable) -> dict[str, NDArray[Any]]:
    users = asked(len(servable.user_ids), len(servable.item_ids))
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
        "popularity": servable.popularity,
    }


def _histories(lists: list[list[int]]) -> Histories:
    lengths = [len(one) for one in lists]
    items = np.array([item for one in lists for item in one], np.int32)
    return Histories(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items)


def main(staging: Path, questions: Path) -> dict[str, Any]:
    """What the fresh process does: measurements by model name."""
    truth: dict[str, Any] = {
        file.stem: np.load(file, mmap_mode="r") for file in questions.glob("*.npy")
    }
    truth[_IDS] = pyarrow.feather.read_table(str(questions / _IDS))[_IDS].combine_chunks()
    exact = _Model(staging / RETRIEVAL_EXACT, truth, exact=True)
    _check(exact)
    # Of what the other model has to find, the exact one says how good the last has to be.
    bounds = {k: exact.by_vector(k)[SCORE][:, -1] for k in exact.recall_ks}
    similar = exact.similar()[SCORE]
    measured = {RETRIEVAL_EXACT: exact.times()}
    del exact
    model = _Model(staging / RETRIEVAL, truth, exact=False)
    _check(model)
    measured[RETRIEVAL] = model.times()
    found = {
        f"recall_at_{k}": model.recall(truth["queries"], model.by_vector(k), bound)
        for k, bound in bounds.items()
    }
    if similar.shape[1]:
        found[f"by_item_recall_at_{similar.shape[1]}"] = model.recall(
            truth["item_queries"], model.similar(), similar[:, -1]
        )
    count = {"queries": len(truth["queries"])}
    measured[RETRIEVAL] |= found | count
    measured[RETRIEVAL_EXACT] |= dict.fromkeys(found, 1.0) | count
    return measured


def _check(model: "_Model") -> None:
    """Ask one model everything."""
    model.check_scores(BY_VECTOR, model.by_vector(_K), model.truth["queries"])
    similar = model.similar()
    model.require(bool(similar[KNOWN].all()), "by_item: a known item is not known")
    rows = model.rows(similar[ITEM_ID])
    items = model.truth["items"]
    model.require(not (rows == items[:, None]).any(), "by_item returns the item itself")
    model.check_scores(BY_ITEM, similar, model.truth["item_queries"], without=items)
    unknown = model.ask(BY_ITEM, {ITEM_ID: np.array([_UNKNOWN_ID])})
    model.require(
        not unknown[KNOWN].any() and bool((unknown[ITEM_ID] == b"").all()),
        "an unknown item is answered for",
    )
    if "user_ids" in model.truth:
        _check_users(model)
    warmup = model.directory / ASSETS_EXTRA / WARMUP_REQUESTS
    records = sum(1 for _ in tf.data.TFRecordDataset(str(warmup)))
    model.require(records > 0, "no warm-up requests")


def _check_users(model: "_Model") -> None:
    truth = model.truth
    users, history = truth["user_ids"], truth["history"]
    answer = model.ask(BY_USER, {USER_ID: users})
    model.require(bool(answer[KNOWN].all()), "a known user is not known")
    model.check_scores(BY_USER, answer, truth["queries"])
    default = model.ask(SERVING_DEFAULT, {USER_ID: users})
    model.require(
        np.array_equal(default[ITEM_ID], answer[ITEM_ID]), "serving_default is not by_user"
    )
    joined = model.ask(BY_USER_AND_HISTORY, {USER_ID: users, HISTORY: history})
    model.check_scores(BY_USER_AND_HISTORY, joined, truth["joined_queries"])
    recent = model.ask(BY_HISTORY, {HISTORY: history})
    if truth["uses_history"]:
        model.check_scores(BY_HISTORY, recent, truth["history_queries"])
    else:
        model.check_popular(BY_HISTORY, recent)
    nobody = np.array([_UNKNOWN_ID])
    model.check_popular(BY_USER, model.ask(BY_USER, {USER_ID: nobody}))
    model.check_popular(BY_HISTORY, model.ask(BY_HISTORY, {HISTORY: nobody[:, None]}))


class _Model:
    """A loaded SavedModel, and what NumPy says of its catalogue."""

    def __init__(self, directory: Path, truth: dict[str, Any], *, exact: bool) -> None:
        import scann  # noqa: F401  (registers the ops)

        self.directory, self.truth = directory, truth
        self._exact = exact
        size = len(truth["vectors"])
        self.width = min(_K, size)
        self.recall_ks = sorted({min(k, size) for k in RECALL_KS if k in (10, _K) or k <= size})
        # Held on to: its variables live as long as it does.
        self._loaded = tf.saved_model.load(str(directory))

    def ask(self, signature: str, inputs: dict[str, NDArray[Any]], k: int = _K) -> dict[str, Any]:
        """The answers to all rows, asked for in parts."""
        answers = [
            self._ask(signature, {name: values[some] for name, values in inputs.items()}, k)
            for some in self._in_parts(len(next(iter(inputs.values()))))
        ]
        return {key: np.concatenate([one[key] for one in answers]) for key in answers[0]}

    def by_vector(self, k: int) -> dict[str, Any]:
        """The answers to the queries."""
        return self.ask(BY_VECTOR, {VECTOR: self.truth["queries"]}, k)

    def similar(self) -> dict[str, Any]:
        """The answers to the items that are asked for: as many as there can be, up to 100."""
        ids = self.truth[_IDS].take(pa.array(self.truth["items"]))
        most = min(_K, len(self.truth["vectors"]) - 1)
        return self.ask(BY_ITEM, {ITEM_ID: np.array(ids.to_pylist(), object)}, most)

    def times(self) -> dict[str, float]:
        """Of an answer through a signature: medians."""
        inputs: dict[str, NDArray[Any]] = {VECTOR: self.truth["queries"]}
        signature = BY_VECTOR
        if "user_ids" in self.truth:
            signature, inputs = BY_USER, {USER_ID: self.truth["user_ids"]}
        alone, of_32 = (self._median(signature, inputs, batch) for batch in (1, 32))
        return {"milliseconds": alone * 1e3, "queries_per_second_of_32": 32 / of_32}

    def recall(
        self, queries: NDArray[np.float32], answer: dict[str, Any], bound: NDArray[np.float32]
    ) -> float:
        """Of queries float32 [M, D], whose last true best scores ``bound``, float32 [M]."""
        rows = self.rows(answer[ITEM_ID]).astype(np.int32)
        return float(recall(rows, queries, self.truth["vectors"], bound).mean())

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
        popular = -np.sort(-self.truth["popularity"])[:_K]
        self.require(not answer[KNOWN].any(), f"{signature}: an unknown id is known")
        self.require(
            bool((answer[SCORE][:, : len(popular)] == popular).all()),
            f"{signature}: unknown ids do not get the popular items",
        )

    def rows(self, ids: NDArray[np.object_]) -> NDArray[np.int64]:
        """Positions of ids, bytes [B, K], in the catalogue; -1 for filler."""
        flat = pa.array(ids.ravel(), pa.large_binary())
        found = pa.compute.index_in(flat, value_set=self.truth[_IDS])
        rows = found.fill_null(-1).to_numpy(zero_copy_only=False).reshape(ids.shape)
        self.require(bool(((rows >= 0) == (ids != b"")).all()), "an id that is no item's")
        found_rows: NDArray[np.int64] = rows.astype(np.int64)
        return found_rows

    def require(self, holds: bool, what: str) -> None:
        """Raise a VerificationError that says ``what`` is wrong where it does not hold."""
        if not holds:
            raise VerificationError(f"{self.directory.name}: {what}")

    def _in_parts(self, rows: int) -> list[slice]:
        """Rows that the catalogue is scored for at once: the larger it is, the fewer."""
        at_once = max(1, _SCORES_AT_ONCE // len(self.truth["vectors"]))
        return [slice(start, start + at_once) for start in range(0, rows, at_once)]

    def _ask(self, signature: str, inputs: dict[str, NDArray[Any]], k: int) -> dict[str, Any]:
        rows = len(next(iter(inputs.values())))
        tensors = {
            name: tf.constant(values if name == VECTOR else values.tolist())
            for name, values in inputs.items()
        }
        answer = self._loaded.signatures[signature](**tensors, **{K: tf.fill([rows], k)})
        return {key: value.numpy() for key, value in answer.items()}

    def _median(self, signature: str, inputs: dict[str, NDArray[Any]], batch: int) -> float:
        """Seconds of an answer to ``batch`` rows."""
        some = {
            name: np.resize(values[:batch], (batch, *values.shape[1:]))
            for name, values in inputs.items()
        }
        self._ask(signature, some, _K)
        times: list[float] = []
        while len(times) < _TIMED[batch] and sum(times) < _TIMED_SECONDS:
            started = time.perf_counter()
            self._ask(signature, some, _K)
            times.append(time.perf_counter() - started)
        return float(np.median(times))

    def _check_scores(
        self,
        signature: str,
        answer: dict[str, NDArray[Any]],
        queries: NDArray[np.float32],
        without: NDArray[np.int64] | None,
    ) -> None:
        scores = queries @ self.truth["vectors"].T
        if without is not None:
            scores[np.arange(len(scores)), without] = -np.inf
        rows = self.rows(answer[ITEM_ID])
        given = np.where(rows >= 0, np.take_along_axis(scores, np.maximum(rows, 0), 1), -np.inf)
        self.require(
            np.allclose(given, answer[SCORE], rtol=1e-3, atol=1e-3),
            f"{signature}: scores differ from numpy's",
        )
        self.require(
            all(len(set(r[r >= 0])) == (r >= 0).sum() for r in rows),
            f"{signature}: a duplicate candidate",
        )
        if self._exact:
            width = min(given.shape[1], scores.shape[1])
            best = -np.partition(-scores, width - 1, axis=1)[:, :width] if width else scores[:, :0]
            self.require(
                np.allclose(-np.sort(-best, axis=1), given[:, :width], rtol=1e-4, atol=1e-4),
                f"{signature}: not the true top k",
            )


if __name__ == "__main__":
    try:
        measurements = main(Path(sys.argv[1]), Path(sys.argv[2]))
    except VerificationError as failure:
        sys.exit(str(failure))
    sys.stdout.write(json.dumps(measurements) + "\n")
