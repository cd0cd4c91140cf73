"""Compares a model's answers with the scores and best items that NumPy computes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from serving_contract import ITEM_ID, SCORE
from trainer.index.exact import recall
from trainer.probe.loaded_model import MAX_SCORES, Arrays

_NORMS_PER_BLOCK = 1_000_000


class NumpyOracle:
    """Checks the answers of one model, given its catalogue of N items and their vectors."""

    def __init__(
        self,
        vectors: NDArray[np.float32],
        item_ids: pa.Array,
        require: Callable[[bool | np.bool_, str], None],
        *,
        exact: bool,
        max_scores: int = MAX_SCORES,
    ) -> None:
        """Create the oracle for one model.

        Args:
            vectors: float32 [N, D], the candidate vectors.
            item_ids: large_binary [N], the item ids as UTF-8, in the order of ``vectors``.
            require: raises an error with the given text if the given condition is false.
            exact: True if the model must return the best items, not just correct scores.
            max_scores: the maximum number of scores in memory at a time.
        """
        self._vectors = vectors
        self._item_ids = item_ids
        self._require = require
        self._exact = exact
        self._block_rows = max(1, max_scores // len(vectors))
        self._max_norm = _largest_norm(vectors)

    def ids(self, rows: NDArray[np.int64]) -> NDArray[np.object_]:
        """Return the ids in the given rows of the catalogue, bytes [B]."""
        return np.array(self._item_ids.take(pa.array(rows)).to_pylist(), object)

    def rows(self, ids: NDArray[np.object_]) -> NDArray[np.int64]:
        """Return the catalogue row of each id: bytes [B, K] -> int64 [B, K], -1 for filler."""
        flat = pa.array(ids.ravel(), pa.large_binary())
        positions = pa.compute.index_in(flat, value_set=self._item_ids)
        rows = positions.fill_null(-1).to_numpy(zero_copy_only=False).reshape(ids.shape)
        is_filler = ids == b""
        self._require(((rows < 0) == is_filler).all(), "returns an id that is not in the catalogue")
        result: NDArray[np.int64] = rows.astype(np.int64)
        return result

    def recall(
        self, queries: NDArray[np.float32], answer: Arrays, kth_best: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return the recall for each query, float64 [M].

        Args:
            queries: float32 [M, D].
            answer: the model's answer, with k candidates for each query.
            kth_best: float32 [M], the exact score of each query's k-th best item.
        """
        rows = self.rows(answer[ITEM_ID]).astype(np.int32)
        return recall(rows, queries, self._vectors, kth_best)

    def check(
        self,
        signature: str,
        answer: Arrays,
        queries: NDArray[np.float32],
        excluded: NDArray[np.int64] | None = None,
    ) -> None:
        """Check that scores are correct, that no item is duplicated, and the best items if exact.

        Args:
            signature: the signature name for error messages.
            answer: the model's answer.
            queries: float32 [B, D], the query vectors that the model must have used.
            excluded: int [B], the catalogue row that each query's answer must not have, or None.
        """
        for start in range(0, len(queries), self._block_rows):
            block = slice(start, start + self._block_rows)
            scores = queries[block] @ self._vectors.T
            if excluded is not None:
                scores[np.arange(len(scores)), excluded[block]] = -np.inf
            part = {name: values[block] for name, values in answer.items()}
            self._check_block(signature, part, queries[block], scores)

    def _check_block(
        self,
        signature: str,
        answer: dict[str, NDArray[Any]],
        queries: NDArray[np.float32],
        scores: NDArray[np.float32],
    ) -> None:
        rows = self.rows(answer[ITEM_ID])
        expected = np.where(rows >= 0, np.take_along_axis(scores, np.maximum(rows, 0), 1), -np.inf)
        # TensorFlow sums products in a different order, and the difference grows with the norms.
        tolerance = 1e-4 * float(np.linalg.norm(queries, axis=1).max(initial=0.0) * self._max_norm)
        self._require(
            np.allclose(expected, answer[SCORE], rtol=1e-3, atol=tolerance),
            f"{signature}: scores differ from NumPy's",
        )
        self._require(
            all(len(set(row[row >= 0])) == np.count_nonzero(row >= 0) for row in rows),
            f"{signature}: returns an item twice",
        )
        if self._exact:
            k = min(expected.shape[1], scores.shape[1])
            self._require(
                np.allclose(_top(scores, k), expected[:, :k], rtol=1e-4, atol=tolerance),
                f"{signature}: does not return the k best items",
            )


def _top(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Return the k highest scores in each row, highest first."""
    if not k:
        return scores[:, :0]
    best: NDArray[np.float32] = -np.sort(np.partition(-scores, k - 1, axis=1)[:, :k], axis=1)
    return best


def _largest_norm(vectors: NDArray[np.float32]) -> float:
    """Return the largest Euclidean norm of all vectors, computed in blocks."""
    blocks = (
        vectors[start : start + _NORMS_PER_BLOCK]
        for start in range(0, len(vectors), _NORMS_PER_BLOCK)
    )
    return float(np.sqrt(max(np.einsum("nd,nd->n", block, block).max() for block in blocks)))
