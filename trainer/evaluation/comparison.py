"""Compares several models on one split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.data.types import Interactions
from trainer.evaluation import slices
from trainer.evaluation.quality import Quality, quality
from trainer.evaluation.ranking import DEPTH, Ranking, rank
from trainer.evaluation.scorers import Scorer


@dataclass(frozen=True)
class Comparison:
    """The result of :func:`compare`; every figure is by name of the model.

    Attributes:
        quality: the metrics on all test rows.
        slices: ``item_popularity`` and ``user_history``. Each slice has a ``label`` (the number of
            training rows of its items or users), a number of test ``rows``, and ``top_100``, the
            unseen_items.top_100 on these rows.
        coverage: ``top_10`` and ``top_100``, the share of the catalogue that is among the k best
            unseen items of at least one user with test rows.
    """

    quality: dict[str, Quality]
    slices: dict[str, list[dict[str, Any]]]
    coverage: dict[str, dict[str, float]]


def compare(
    models: Mapping[str, Callable[[], Scorer]],
    train: Interactions,
    test: Interactions,
    items: int,
) -> Comparison:
    """Evaluate every model.

    Args:
        models: by name, a function that builds the model's scorer. Only one model is in memory at a
            time, because a model can be as large as the square of the catalogue.
        train: the training rows.
        test: the test rows.
        items: number of items in the catalogue.

    Raises:
        ValueError: there are no test rows.
    """
    rankings = {name: rank(build(), train, test) for name, build in models.items()}
    found = {name: ranking.unseen_items < DEPTH for name, ranking in rankings.items()}
    return Comparison(
        quality={name: quality(ranking, test) for name, ranking in rankings.items()},
        slices={
            "item_popularity": slices.by_item_popularity(train, test, items).means(found),
            "user_history": slices.by_user_history(train, test).means(found),
        },
        coverage={name: _coverage(ranking) for name, ranking in rankings.items()},
    )


def _coverage(ranking: Ranking) -> dict[str, float]:
    return {f"top_{k}": float(np.mean(ranking.best_rank < k)) for k in (10, DEPTH)}
