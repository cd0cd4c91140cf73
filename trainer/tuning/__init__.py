"""Hyperparameter search: trains with many settings and writes the best ones to a file.

Every trial is evaluated on validation rows, which are held out of the training rows; test rows are
never used. The search ends after a time budget, a number of trials or an interrupt.

pipeline    splits the data, runs and evaluates trials, and writes the best settings
search      runs trials until a limit is reached
space       the settings that are searched, and their bounds
terminal    prints progress and the best trials
"""

from collections.abc import Callable, Mapping

from trainer.evaluation import Quality

DEFAULT_METRIC = "top_100"

#: The metrics that a search can maximize; :mod:`trainer.evaluation` defines them.
METRICS: Mapping[str, Callable[[Quality], float]] = {
    "top_10": lambda quality: quality.unseen_items.top_10,
    DEFAULT_METRIC: lambda quality: quality.unseen_items.top_100,
    "all_items_top_100": lambda quality: quality.all_items.top_100,
}
