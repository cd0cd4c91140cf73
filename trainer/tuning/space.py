"""Which settings are searched, and between which bounds.

A share is searched over the whole of its range. Everything else is searched on a log scale, by a
factor either way of the value that the search starts from: there the configuration knows better
than any table here what is usual for the data. Either way the bounds are within the setting's
own, and what the search starts from is within the bounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from config_fields import rule_of
from trainer import config
from trainer.config import Config

# Enough to tell two trials apart, and short in a file.
_DIGITS = 3


@dataclass(frozen=True)
class _Searched:
    """A setting, ``section.key``, and the factor either way; 0: a share."""

    key: str
    factor: float = 0.0


_SEARCHED = (
    _Searched("model.embedding_dim", 2),
    _Searched("model.history_exponent"),
    _Searched("model.item_id_dropout"),
    _Searched("training.temperature", 4),
    _Searched("training.learning_rate", 5),
    # A trial takes as long as it has epochs.
    _Searched("training.epochs", 2),
    _Searched("training.batch_size", 4),
    _Searched("training.kept_weight"),
    _Searched("training.negatives", 4),
)


def distributions(start: Config, *, item_features: bool) -> dict[str, BaseDistribution]:
    """Of every setting that makes a difference to this training, by its key.

    Args:
        start: what the search starts from, with nothing left open.
        item_features: whether items have any that the model reads.
    """
    objective = start.training.objective
    used = {
        "model.history_exponent": start.model.history_length > 0,
        "model.item_id_dropout": item_features,
        "training.kept_weight": objective != "in_batch",
        # 0 of them is a choice, and has no logarithm.
        "training.negatives": objective != "full_softmax" and start.training.negatives > 0,
    }
    return {one.key: _between(start, one) for one in _SEARCHED if used.get(one.key, True)}


def starting_point(start: Config, searched: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """The values of the searched settings in ``start``."""
    return {key: _value(start, key) for key in searched}


def configured(start: Config, parameters: Mapping[str, Any]) -> Config:
    """``start`` with a trial's parameters, rounded where they are not its own."""
    changes = (
        (key, value if value == _value(start, key) else _rounded(value))
        for key, value in parameters.items()
    )
    return reduce(lambda made, change: config.change(made, *change), changes, start)


def _between(start: Config, searched: _Searched) -> BaseDistribution:
    section, _, key = searched.key.partition(".")
    (setting,) = (one for one in fields(getattr(start, section)) if one.name == key)
    low, high = rule_of(setting).low, rule_of(setting).high
    if not searched.factor:
        return FloatDistribution(low, high)
    value = _value(start, searched.key)
    low, high = max(low, value / searched.factor), min(high, value * searched.factor)
    if isinstance(value, int):
        return IntDistribution(max(1, int(low)), int(high), log=True)
    return FloatDistribution(low, high, log=True)


def _value(start: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(start, section), name)


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{_DIGITS}g}")
