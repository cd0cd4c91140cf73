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

_UNKNOWN_ID = "\x00 unknown"
_K = 100
# Recall is measured at these k. Those above 100 need a catalogue of that size.
_RECALL_KS = (10, 100, 1_000)
# NumPy computes at most this many scores per signature, but for at least this many queries.
_MAX_CHECKED_SCORES = 200_000_000
_MIN_CHECKED = 8


def check_exported_models(
    directory: Path, servable: VectorServable, queries: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """Check ``directory/retrieval`` and ``directory/retrieval_exact`` in a fresh process.

    Args:
        directory: contains both models.
        servable: what they were exported from.
        queries: float32 [M, D], vectors to measure recall with, of which up to 512 are used;
            None to use the query vectors of known users or, without users, of items.

    Returns:
        measurements by model name: ``recall_at_10``, ``recall_at_100``, ``recall_at_1000`` (of
        a catalogue that is large enough) and ``by_item_recall_at_100``, against the exact
        answers; ``recall_at_100_error``, its standard error; ``milliseconds``, the median time
        of one query, and ``queries_per_second_of_32`` in batches of 32; and ``queries``, the
        number of queries that recall was measured with.

    Raises:
        VerificationError: a model cannot be loaded or returns wrong results.
    """
    values = {"check": CHECK, "directory": str(directory.absolute())}
    request = Message(values, prepare_questions(servable, queries))
    response = run_in_fresh_process(request, scratch_parent=directory)
    return dict(response.values)


def answer(request: Message) -> Message:
    """Check and measure both models."""
    directory, asked = Path(request.values["directory"]), request.arrays
    size = len(asked["vectors"])
    ks = {k: min(k, size) for k in _RECALL_KS if k <= max(size, _K)}
    exact = _ExportedModel(directory, contract.RETRIEVAL_EXACT, asked, exact=True)
    exact.check()
    best = exact.by_vector(max(ks.values()))[contract.SCORE]
    best_similar = exact.similar_items()[contract.SCORE]
    measured = {contract.RETRIEVAL_EXACT: exact.times()}
    del exact
    gc.collect()  # Frees the first model before the second one is loaded.
    model = _ExportedModel(directory, contract.RETRIEVAL, asked, exact=False)
    model.check()
    measured[contract.RETRIEVAL] = model.times()
    recalls = {
        f"recall_at_{name}": model.oracle.recall(
            asked["queries"], model.by_vector(k), best[:, k - 1]
        )
        for name, k in ks.items()
    }
    if best_similar.shape[1]:
        recalls["by_item_recall_at_100"] = model.oracle.recall(
            asked["item_queries"], model.similar_items(), best_similar[:, -1]
        )
    means = {name: float(recall.mean()) for name, recall in recalls.items()}
    at_100 = recalls["recall_at_100"]
    error = {"recall_at_100_error": float(at_100.std() / math.sqrt(len(at_100)))}
    count = {"queries": len(asked["queries"])}
    measured[contract.RETRIEVAL] |= means | error | count
    measured[contract.RETRIEVAL_EXACT] |= dict.fromkeys(means, 1.0) | count
    return Message(measured)


class _ExportedModel:
    """One of the two models, what it is asked, and what NumPy expects of its answers."""

    def __init__(self, directory: Path, name: str, asked: Mapping[str, Any], *, exact: bool):
        self._asked = asked
        self._size = len(asked["vectors"])
        self._model = LoadedModel(directory / name, name, self._size)
        self._require = self._model.require
        self.oracle = NumpyOracle(asked["vectors"], asked["item_ids"], self._require, exact=exact)

    def by_vector(self, k: int) -> Arrays:
        """Return the answer to all query vectors."""
        return self._model.ask(contract.BY_VECTOR, {contract.VECTOR: self._asked["queries"]}, k)

    def similar_items(self) -> Arrays:
        """Return up to 100 items similar to each of the items that are asked about."""
        ids = self.oracle.ids(self._asked["items"])
        return self._model.ask(contract.BY_ITEM, {contract.ITEM_ID: ids}, min(_K, self._size - 1))

    def times(self) -> dict[str, float]:
        """Measure response times through the signature that serves most requests."""
        inputs, signature = {contract.VECTOR: self._asked["queries"]}, contract.BY_VECTOR
        if "user_ids" in self._asked:
            inputs, signature = {contract.USER_ID: self._asked["user_ids"]}, contract.BY_USER
        one, of_32 = (self._model.median_seconds(signature, inputs, batch, _K) for batch in (1, 32))
        return {"milliseconds": one * 1e3, "queries_per_second_of_32": 32 / of_32}

    def check(self) -> None:
        """Ask every signature, and compare the answers with NumPy's."""
        checked = max(_MIN_CHECKED, min(MAX_QUERIES, _MAX_CHECKED_SCORES // self._size))
        # Memory-mapped arrays become ordinary ones of the rows that are checked.
        whole = ("vectors", "item_ids", "uses_history", "popularity")
        asked = {name: self._asked[name][:checked] for name in self._asked if name not in whole}
        self._check_vectors(asked["queries"])
        self._check_items(asked["items"], asked["item_queries"])
        if "user_ids" in asked:
            self._check_users(asked)
        self._require(any(self._model.warmup_requests()), "has no warm-up requests")

    def _check_vectors(self, queries: NDArray[np.float32]) -> None:
        answer = self._ask(contract.BY_VECTOR, {contract.VECTOR: queries})
        self._require(bool(answer[contract.KNOWN].all()), "by_vector: a vector is not known")
        self.oracle.check(contract.BY_VECTOR, answer, queries)

    def _check_items(self, items: NDArray[np.int64], queries: NDArray[np.float32]) -> None:
        answer = self._ask(contract.BY_ITEM, {contract.ITEM_ID: self.oracle.ids(items)})
        self._require(
            bool(answer[contract.KNOWN].all()), "by_item: an item of the catalogue is not known"
        )
        itself = self.oracle.rows(answer[contract.ITEM_ID]) == items[:, None]
        self._require(not itself.any(), "by_item: returns the query item itself")
        self.oracle.check(contract.BY_ITEM, answer, queries, excluded=items)
        unknown = self._ask(contract.BY_ITEM, {contract.ITEM_ID: np.array([_UNKNOWN_ID])})
        self._require(
            not unknown[contract.KNOWN].any() and bool((unknown[contract.ITEM_ID] == b"").all()),
            "by_item: returns items for an unknown item",
        )

    def _check_users(self, asked: Mapping[str, Any]) -> None:
        users, history = {contract.USER_ID: asked["user_ids"]}, {contract.HISTORY: asked["history"]}
        answer = self._ask(contract.BY_USER, users)
        self._require(bool(answer[contract.KNOWN].all()), "by_user: a known user is not known")
        self.oracle.check(contract.BY_USER, answer, asked["queries"])
        default = self._ask(contract.SERVING_DEFAULT, users)
        self._require(
            np.array_equal(default[contract.ITEM_ID], answer[contract.ITEM_ID]),
            "serving_default: does not answer like by_user",
        )
        combined = self._ask(contract.BY_USER_AND_HISTORY, users | history)
        self.oracle.check(contract.BY_USER_AND_HISTORY, combined, asked["combined_queries"])
        recent = self._ask(contract.BY_HISTORY, history)
        if self._asked["uses_history"]:
            self.oracle.check(contract.BY_HISTORY, recent, asked["history_queries"])
        else:
            self._check_popular(contract.BY_HISTORY, recent)
        unknown = np.array([_UNKNOWN_ID])
        self._check_popular(
            contract.BY_USER, self._ask(contract.BY_USER, {contract.USER_ID: unknown})
        )
        self._check_popular(
            contract.BY_HISTORY,
            self._ask(contract.BY_HISTORY, {contract.HISTORY: unknown[:, None]}),
        )

    def _check_popular(self, signature: str, answer: Arrays) -> None:
        """Require the most popular items, as for queries of which nothing is known."""
        popular = -np.sort(-self._asked["popularity"])[:_K]
        self._require(not answer[contract.KNOWN].any(), f"{signature}: an unknown id is known")
        self._require(
            bool((answer[contract.SCORE][:, : len(popular)] == popular).all()),
            f"{signature}: does not return the most popular items for an unknown id",
        )

    def _ask(self, signature: str, inputs: Arrays) -> Arrays:
        return self._model.ask(signature, inputs, _K)
