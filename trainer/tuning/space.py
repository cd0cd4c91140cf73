"""Defines the settings that are searched, and their bounds.

A share is searched over its whole range. All other settings are searched on a logarithmic scale,
up to a factor above and below their starting value, because the starting configuration fits the
data better than fixed bounds could. Bounds never exceed a setting's own range, and always
include the starting value.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import reduce
from operator import attrgetter
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from config_fields import rule_of
from trainer import config
from trainer.config import Config

# Enough digits to tell two trials apart, and few enough to read in a file.
_SIGNIFICANT_DIGITS = 3


#: The factor of the bounds of every setting that is searched; 0 for a share.
_FACTORS = {
    "model.embedding_dim": 2,
    "model.history_exponent": 0,
    "model.item_id_dropout": 0,
    "training.temperature": 4,
    "training.learning_rate": 5,
    # A small factor, because the time of a trial is proportional to its epochs.
    "training.epochs": 2,
    "training.batch_size": 4,
    "training.kept_weight": 0,
    "training.negatives": 4,
}


def distributions(start: Config, *, item_features: bool) -> dict[str, BaseDistribution]:
    """Return the bounds of every setting that has an effect on this training, by key.

    Args:
        start: the starting configuration, with all automatic choices made.
        item_features: True if the model reads features of items.
    """
    objective = start.training.objective
    used = {
        "model.history_exponent": start.model.history_length > 0,
        "model.item_id_dropout": item_features,
        "training.kept_weight": objective != "in_batch",
        # 0 turns sampling off, and has no logarithm.
        "training.negatives": objective != "full_softmax" and start.training.negatives > 0,
    }
    return {key: _bounds(start, key) for key in _FACTORS if used.get(key, True)}


def starting_point(start: Config, bounds: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return the values that the searched settings have in ``start``."""
    return {key: _value(start, key) for key in bounds}


def with_parameters(start: Config, parameters: Mapping[str, Any]) -> Config:
    """Return ``start`` with a trial's parameters; values that differ from ``start`` are rounded."""
    changes = (
        (key, value if value == _value(start, key) else _rounded(value))
        for key, value in parameters.items()
    )
    return reduce(lambda changed, change: config.change(changed, *change), changes, start)


def _bounds(start: Config, key: str) -> BaseDistribution:
    section, _, name = key.partition(".")
    (rule,) = (rule_of(field) for field in fields(getattr(start, section)) if field.name == name)
    factor, value = _FACTORS[key], _value(start, key)
    if not factor:
        return FloatDistribution(rule.low, rule.high)
    low, high = max(rule.low, value / factor), min(rule.high, value * factor)
    if isinstance(value, int):
        return IntDistribution(max(1, int(low)), int(high), log=True)
    return FloatDistribution(low, high, log=True)


def _value(start: Config, key: str) -> Any:
    return attrgetter(key)(start)


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
