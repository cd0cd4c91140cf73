"""A model that was loaded, its answers, and what NumPy says of them."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import tensorflow as tf
from numpy.typing import NDArray

from serving_contract import BY_ITEM, BY_USER, BY_VECTOR, ITEM_ID, KNOWN, SCORE, USER_ID, VECTOR, K
from trainer.errors import VerificationError
from trainer.index import kinds
from trainer.index.recall import recall
from trainer.probe.questions import IDS, MOST_QUERIES

# Results of a question.
_RESULTS = 100

# Recall is measured at these k; above 100, where the catalogue has as many items.
_RECALL_KS = (10, 100, 1_000)
# NumPy computes so many scores for every signature, and so many at once (128 MB).
_MOST_CHECKED = 200_000_000
_SCORES_AT_ONCE = 32_000_000
# So many answers are timed, in so many seconds at the most.
_TIMED = {1: 200, 32: 50}
_TIMED_SECONDS = 3.0


class Model:
    """A loaded SavedModel, and what NumPy says of its catalogue."""

    def __init__(self, directory: Path, truth: dict[str, Any], *, exact: bool) -> None:
        kinds.register_ops()
        self.directory, self.truth = directory, truth
        self._exact = exact
        size = len(truth["vectors"])
        self.checked = max(8, min(MOST_QUERIES, _MOST_CHECKED // size))
        self.recall_ks = {k: min(k, size) for k in _RECALL_KS if k <= max(size, _RESULTS)}
        self._longest = _longest(truth["vectors"])
        # Held on to: its variables live as long as it does.
        self._loaded = tf.saved_model.load(str(directory))

    def ask(
        self, signature: str, inputs: dict[str, NDArray[Any]], k: int = _RESULTS
    ) -> dict[str, Any]:
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
        most = min(_RESULTS, len(self.truth["vectors"]) - 1)
        return self.ask(BY_ITEM, {ITEM_ID: self.names(self.truth["items"])}, most)

    def names(self, rows: NDArray[np.int64]) -> NDArray[np.object_]:
        """Ids of rows of the catalogue, bytes [B]."""
        return np.array(self.truth[IDS].take(pa.array(rows)).to_pylist(), object)

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
    ) -> NDArray[np.float64]:
        """By query, [M]: of queries float32 [M, D] whose last true best scores ``bound`` [M]."""
        rows = self.rows(answer[ITEM_ID]).astype(np.int32)
        return recall(rows, queries, self.truth["vectors"], bound)

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
        popular = -np.sort(-self.truth["popularity"])[:_RESULTS]
        self.require(not answer[KNOWN].any(), f"{signature}: an unknown id is known")
        self.require(
            bool((answer[SCORE][:, : len(popular)] == popular).all()),
            f"{signature}: unknown ids do not get the popular items",
        )

    def rows(self, ids: NDArray[np.object_]) -> NDArray[np.int64]:
        """Positions of ids, bytes [B, K], in the catalogue; -1 for filler."""
        flat = pa.array(ids.ravel(), pa.large_binary())
        found = pa.compute.index_in(flat, value_set=self.truth[IDS])
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
        self._ask(signature, some, _RESULTS)
        times: list[float] = []
        while len(times) < _TIMED[batch] and sum(times) < _TIMED_SECONDS:
            started = time.perf_counter()
            self._ask(signature, some, _RESULTS)
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
        # Sums of products of these lengths, in another order.
        rounding = 1e-4 * float(np.linalg.norm(queries, axis=1).max(initial=0.0) * self._longest)
        self.require(
            np.allclose(given, answer[SCORE], rtol=1e-3, atol=rounding),
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
                np.allclose(-np.sort(-best, axis=1), given[:, :width], rtol=1e-4, atol=rounding),
                f"{signature}: not the true top k",
            )


def _longest(vectors: NDArray[np.float32]) -> float:
    """The largest length of a vector, in blocks."""
    blocks = (vectors[start : start + 1_000_000] for start in range(0, len(vectors), 1_000_000))
    return float(np.sqrt(max(np.einsum("nd,nd->n", some, some).max() for some in blocks)))
