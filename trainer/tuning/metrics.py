"""Metrics that a search can maximize; :mod:`trainer.evaluation` defines them."""

from collections.abc import Callable, Mapping

from trainer.evaluation import Quality

DEFAULT = "top_100"

METRICS: Mapping[str, Callable[[Quality], float]] = {
    "top_10": lambda quality: quality.unseen_items.top_10,
    DEFAULT: lambda quality: quality.unseen_items.top_100,
    "all_items_top_100": lambda quality: quality.all_items.top_100,
}
