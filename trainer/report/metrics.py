"""Builds the parts of metrics.json. Each docstring names the keys that its function fills."""

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.types import Dataset, Split
from trainer.evaluation import Comparison
from trainer.evaluation.ranking import best_items
from trainer.model import item_to_item as item_training
from trainer.model.training import LearningCurve
from trainer.report.tables import OURS

_PACKAGES = ("tensorflow", "tf-keras", "tensorflow-recommenders", "scann", "numpy", "implicit")


def dataset(data: Dataset, split: Split) -> dict[str, Any]:
    """Return ``dataset``: the name, the sizes and the split of the data."""
    return {
        "name": data.name,
        "users": len(data.user_ids),
        "items": len(data.item_ids),
        "train": len(split.train),
        "test": len(split.test),
        "split": split.name,
    }


def comparison(compared: Comparison, left_out: Mapping[str, str]) -> dict[str, Any]:
    """Return ``test``, ``baselines``, ``baselines_left_out``, ``slices`` and ``coverage``."""
    quality = {name: model.as_dict() for name, model in compared.quality.items()}
    return {
        "test": quality.pop(OURS),
        "baselines": quality,
        "baselines_left_out": dict(left_out),
        "slices": compared.slices,
        "coverage": compared.coverage,
    }


def learning_curve(curve: LearningCurve) -> dict[str, list[float]]:
    """Return ``learning_curve``: the training loss at the end of every epoch, from epoch 1.

    ``validation`` is ``unseen_items`` top-100 on rows held out of the training rows, and is empty
    if no rows were held out.
    """
    return {
        "epoch": list(range(1, len(curve.loss) + 1)),
        "loss": list(curve.loss),
        "validation": list(curve.validation),
    }


def item_to_item(
    vectors: NDArray[np.float32], item_queries: NDArray[np.float32] | None, split: Split
) -> dict[str, dict[str, float]]:
    """Return ``item_to_item``: how often the held-out next item is among the similar items.

    Similarity uses the candidate vectors and, if they were trained, the item queries.
    """
    qualities = {}
    for name, queries in (("candidate_vectors", vectors), ("trained", item_queries)):
        quality = None if queries is None else item_training.evaluate(queries, vectors, split)
        if quality is not None:
            qualities[name] = asdict(quality)
    return qualities


def versions() -> dict[str, str]:
    """Return ``versions``: the versions of Python and of the packages that determine a model."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return packages | {"python": platform.python_version()}


def similar_items(
    queries: NDArray[np.float32] | None,
    vectors: NDArray[np.float32],
    popularity: NDArray[np.float32],
    item_ids: NDArray[np.object_],
    titles: NDArray[np.object_],
    *,
    items: int = 10,
    neighbours: int = 10,
) -> list[dict[str, Any]]:
    """Return ``similar_items``: the nearest neighbours of the most popular items.

    Args:
        queries: float32 [N, D], the query vector of each item; None uses ``vectors``.
        vectors: float32 [N, D], the candidate vectors.
        popularity: float32 [N], the number of training interactions of each item. Equally popular
            items are in catalogue order.
        item_ids: str objects [N].
        titles: str objects [N].
        items: the number of popular items.
        neighbours: the number of neighbours of each item. These are the items with the highest dot
            products, best first; a small catalogue has fewer.
    """

    def entry(row: int) -> dict[str, Any]:
        return {"item_id": str(item_ids[row]), "title": str(titles[row])}

    def nearest(row: int) -> list[dict[str, Any]]:
        scores = vectors @ (vectors if queries is None else queries)[row]
        scores[row] = -np.inf
        best = best_items(scores[None], neighbours)[0]
        return [entry(item) | {"score": float(scores[item])} for item in best if item >= 0]

    popular = np.argsort(-popularity, kind="stable")[:items]
    return [entry(row) | {"similar": nearest(row)} for row in popular]
