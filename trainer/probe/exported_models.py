"""Checks newly exported models against NumPy, and measures their recall and speed."""

import gc
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import serving_contract as contract
from trainer.artifact.servable import VectorServable
from trainer.probe.loaded_model import Arrays, LoadedModel
from trainer.probe.numpy_oracle import NumpyOracle
from trainer.probe.protocol import Message, run_in_fresh_process
from trainer.probe.questions import MAX_QUERIES, prepare_questions

CHECK = "exported_models"

# An id that cannot occur in a data set, because ids must not contain NUL.
_UNKNOWN_ID = "\x00 unknown"
_K = 100
# Recall is measured for these values of k, except for a k above both 100 and the catalogue size.
_RECALL_KS = (10, 100, 1_000)
# NumPy computes at most this many scores per signature, but scores at least this many queries.
_MAX_CHECKED_SCORES = 200_000_000
_MIN_CHECKED_QUERIES = 8


def check_exported_models(
    directory: Path, servable: VectorServable, queries: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """Check ``directory/retrieval`` and ``directory/retrieval_exact`` in a fresh process.

    Args:
        directory: contains both models.
        servable: the data that both models were exported from.
        queries: float32 [M, D], query vectors for measuring recall, of which up to 512 are used.
            Ignored for a servable with users, whose query vectors are used instead. None uses item
            vectors.

    Returns:
        Measurements by model name. ``recall_at_10``, ``recall_at_100``, ``recall_at_1000`` (if the
        catalogue is large enough) and ``by_item_recall_at_100`` compare the answers with exact
        answers. ``recall_at_100_error`` is the standard error of ``recall_at_100``. ``queries`` is
        the number of queries that recall was measured with. ``milliseconds`` is the median time of
        one query, and ``queries_per_second_of_32`` is the throughput in batches of 32.

    Raises:
        VerificationError: a model cannot be loaded or returns wrong results.
    """
    values = {"check": CHECK, "directory": str(directory.absolute())}
    request = Message(values, prepare_questions(servable, queries))
    response = run_in_fresh_process(request, scratch_parent=directory)
    return dict(response.values)


def answer(request: Message) -> Message:
    """Answer the request in the fresh process: check and measure both models."""
    directory, data = Path(request.values["directory"]), request.arrays
    size = len(data["vectors"])
    ks = {k: min(k, size) for k in _RECALL_KS if k <= max(size, _K)}
    exact = _ExportedModel(directory, contract.RETRIEVAL_EXACT, data, exact=True)
    exact.check()
    best_scores = exact.by_vector(max(ks.values()))[contract.SCORE]
    best_similar_scores = exact.similar_items()[contract.SCORE]
    measurements = {contract.RETRIEVAL_EXACT: exact.times()}
    del exact
    gc.collect()  # Frees the first model before the second one is loaded.
    model = _ExportedModel(directory, contract.RETRIEVAL, data, exact=False)
    model.check()
    measurements[contract.RETRIEVAL] = model.times()
    recalls = {
        f"recall_at_{name}": model.oracle.recall(
            data["queries"], model.by_vector(k), best_scores[:, k - 1]
        )
        for name, k in ks.items()
    }
    if best_similar_scores.shape[1]:
        recalls["by_item_recall_at_100"] = model.oracle.recall(
            data["item_queries"], model.similar_items(), best_similar_scores[:, -1]
        )
    means = {name: float(recall.mean()) for name, recall in recalls.items()}
    at_100 = recalls["recall_at_100"]
    error = {"recall_at_100_error": float(at_100.std() / math.sqrt(len(at_100)))}
    count = {"queries": len(data["queries"])}
    measurements[contract.RETRIEVAL] |= means | error | count
    measurements[contract.RETRIEVAL_EXACT] |= dict.fromkeys(means, 1.0) | count
    return Message(measurements)


class _ExportedModel:
    """One of the two models, with the queries to send and the oracle that checks the answers."""

    def __init__(self, directory: Path, name: str, data: Mapping[str, Any], *, exact: bool):
        self._data = data
        self._size = len(data["vectors"])
        self._model = LoadedModel(directory / name, name, self._size)
        self._require = self._model.require
        self.oracle = NumpyOracle(data["vectors"], data["item_ids"], self._require, exact=exact)

    def by_vector(self, k: int) -> Arrays:
        """Return the answers to all query vectors."""
        return self._model.ask(contract.BY_VECTOR, {contract.VECTOR: self._data["queries"]}, k)

    def similar_items(self) -> Arrays:
        """Return up to 100 similar items for each of the sampled items."""
        ids = self.oracle.ids(self._data["items"])
        return self._model.ask(contract.BY_ITEM, {contract.ITEM_ID: ids}, min(_K, self._size - 1))

    def times(self) -> dict[str, float]:
        """Measure response times of ``by_user``, or of ``by_vector`` for a model without users."""
        inputs, signature = {contract.VECTOR: self._data["queries"]}, contract.BY_VECTOR
        if "user_ids" in self._data:
            inputs, signature = {contract.USER_ID: self._data["user_ids"]}, contract.BY_USER
        single_s, batch_s = (
            self._model.median_seconds(signature, inputs, batch, _K) for batch in (1, 32)
        )
        return {"milliseconds": single_s * 1e3, "queries_per_second_of_32": 32 / batch_s}

    def check(self) -> None:
        """Query every signature, and compare the answers with NumPy's results."""
        checked = max(_MIN_CHECKED_QUERIES, min(MAX_QUERIES, _MAX_CHECKED_SCORES // self._size))
        # Slicing the memory-mapped arrays reads only the rows that are checked.
        not_queries = ("vectors", "item_ids", "uses_history", "popularity")
        data = {name: self._data[name][:checked] for name in self._data if name not in not_queries}
        self._check_vectors(data["queries"])
        self._check_items(data["items"], data["item_queries"])
        if "user_ids" in data:
            self._check_users(data)
        self._require(any(self._model.warmup_requests()), "has no warm-up requests")

    def _check_vectors(self, queries: NDArray[np.float32]) -> None:
        answer = self._ask(contract.BY_VECTOR, {contract.VECTOR: queries})
        self._require(answer[contract.KNOWN].all(), "by_vector: reports a vector as unknown")
        self.oracle.check(contract.BY_VECTOR, answer, queries)

    def _check_items(self, items: NDArray[np.int64], queries: NDArray[np.float32]) -> None:
        answer = self._ask(contract.BY_ITEM, {contract.ITEM_ID: self.oracle.ids(items)})
        self._require(answer[contract.KNOWN].all(), "by_item: reports a known item as unknown")
        is_query_item = self.oracle.rows(answer[contract.ITEM_ID]) == items[:, None]
        self._require(not is_query_item.any(), "by_item: returns the query item itself")
        self.oracle.check(contract.BY_ITEM, answer, queries, excluded=items)
        unknown = self._ask(contract.BY_ITEM, {contract.ITEM_ID: np.array([_UNKNOWN_ID])})
        self._require(
            not unknown[contract.KNOWN].any() and (unknown[contract.ITEM_ID] == b"").all(),
            "by_item: returns items for an unknown item",
        )

    def _check_users(self, data: Mapping[str, Any]) -> None:
        users, history = {contract.USER_ID: data["user_ids"]}, {contract.HISTORY: data["history"]}
        answer = self._ask(contract.BY_USER, users)
        self._require(answer[contract.KNOWN].all(), "by_user: reports a known user as unknown")
        self.oracle.check(contract.BY_USER, answer, data["queries"])
        default = self._ask(contract.SERVING_DEFAULT, users)
        self._require(
            np.array_equal(default[contract.ITEM_ID], answer[contract.ITEM_ID]),
            "serving_default: answers differently from by_user",
        )
        combined = self._ask(contract.BY_USER_AND_HISTORY, users | history)
        self.oracle.check(contract.BY_USER_AND_HISTORY, combined, data["combined_queries"])
        recent = self._ask(contract.BY_HISTORY, history)
        if self._data["uses_history"]:
            self.oracle.check(contract.BY_HISTORY, recent, data["history_queries"])
        else:
            self._check_popular(contract.BY_HISTORY, recent)
        unknown_user = self._ask(contract.BY_USER, {contract.USER_ID: np.array([_UNKNOWN_ID])})
        self._check_popular(contract.BY_USER, unknown_user)
        unknown_item = self._ask(contract.BY_HISTORY, {contract.HISTORY: np.array([[_UNKNOWN_ID]])})
        self._check_popular(contract.BY_HISTORY, unknown_item)

    def _check_popular(self, signature: str, answer: Arrays) -> None:
        """Check that the answer has the most popular items, as for every unknown query."""
        popular = -np.sort(-self._data["popularity"])[:_K]
        known = answer[contract.KNOWN]
        self._require(not known.any(), f"{signature}: reports an unknown id as known")
        self._require(
            (answer[contract.SCORE][:, : len(popular)] == popular).all(),
            f"{signature}: does not return the most popular items for an unknown id",
        )

    def _ask(self, signature: str, inputs: Arrays) -> Arrays:
        return self._model.ask(signature, inputs, _K)
