"""Defines the settings that are searched, and their bounds.

A share is searched over its whole range. Every other setting is searched on a logarithmic scale
from its starting value divided by a factor to that value multiplied by the factor, because the
starting configuration fits the data better than fixed bounds could. The bounds never exceed the
valid range of the setting.
"""

from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from config_fields import rule_of
from trainer import config
from trainer.config import Config

# Enough digits to distinguish trials, and few enough to be readable in a file.
_SIGNIFICANT_DIGITS = 3

# The searched settings with the factor that determines their bounds; None for a share.
_FACTORS = {
    "model.embedding_dim": 2,
    "model.history_exponent": None,
    "model.item_id_dropout": None,
    "training.temperature": 4,
    "training.learning_rate": 5,
    # A small factor, because the duration of a trial is proportional to its epochs.
    "training.epochs": 2,
    "training.batch_size": 4,
    "training.kept_weight": None,
    "training.negatives": 4,
}


def distributions(base: Config, *, item_features: bool) -> dict[str, BaseDistribution]:
    """Return the bounds of the settings to search, without those that would have no effect.

    Args:
        base: the starting configuration, with all automatic choices made.
        item_features: True if the model uses item features.

    Returns:
        The bounds of each setting, keyed by ``section.name``.
    """
    objective = base.training.objective
    used = {
        "model.history_exponent": base.model.history_length > 0,
        "model.item_id_dropout": item_features,
        "training.kept_weight": objective != "in_batch",
        # 0 negatives cannot be searched on a logarithmic scale.
        "training.negatives": objective != "full_softmax" and base.training.negatives > 0,
    }
    return {key: _bounds(base, key) for key in _FACTORS if used.get(key, True)}


def starting_point(base: Config, bounds: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return the values that the searched settings have in ``base``."""
    return {key: _value(base, key) for key in bounds}


def with_parameters(base: Config, parameters: Mapping[str, Any]) -> Config:
    """Return ``base`` with the parameters of a trial, rounded to three significant digits."""
    changed = base
    for key, value in parameters.items():
        # A starting value is not rounded: the first trial has exactly the starting configuration.
        if value != _value(base, key):
            changed = config.change(changed, key, _rounded(value))
    return changed


def _bounds(base: Config, key: str) -> BaseDistribution:
    section, _, name = key.partition(".")
    rule = {field.name: rule_of(field) for field in fields(getattr(base, section))}[name]
    factor, value = _FACTORS[key], _value(base, key)
    if factor is None:
        return FloatDistribution(rule.low, rule.high)
    low, high = max(rule.low, value / factor), min(rule.high, value * factor)
    if isinstance(value, int):
        return IntDistribution(max(1, int(low)), int(high), log=True)
    return FloatDistribution(low, high, log=True)


def _value(base: Config, key: str) -> Any:
    return attrgetter(key)(base)


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
