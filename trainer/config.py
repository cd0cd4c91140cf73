"""One typed, frozen configuration of a run: presets, TOML files, ``--set``.

A file or a ``--set`` changes single fields of a preset:

    preset = "tutorial"
    [training]
    epochs = 5
"""

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Section = TypeVar("Section")


class ConfigError(Exception):
    """A configuration that cannot be used. The message names the field."""


def _setting(default: Any, text: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """A field with its default, its sentence and its range (both ends included)."""
    return field(default=default, metadata={"text": text, "low": low, "high": high})


@dataclass(frozen=True)
class SplitConfig:
    """How rows are held out for the test."""

    kind: Literal["random", "temporal", "temporal_per_user"] = _setting(
        "random",
        "random rows, the rows after a point in time, or the last rows of every user",
    )
    test_share: float = _setting(0.2, "share of the rows held out", 0.001, 0.9)


@dataclass(frozen=True)
class ModelConfig:
    """The two towers."""

    embedding_dim: int = _setting(64, "length of the towers' vectors", 1, 4096)
    normalize: bool = _setting(
        True, "scale every vector to length 1, so that scores are cosines and similar items too"
    )


@dataclass(frozen=True)
class TrainingConfig:
    """The retrieval task and its optimiser."""

    optimizer: Literal["adagrad", "adam"] = _setting("adam", "Keras optimiser")
    learning_rate: float = _setting(0.005, "its learning rate", 1e-7, 10.0)
    batch_size: int = _setting(1024, "rows of a step; the others' items are the negatives", 2)
    epochs: int = _setting(10, "passes over the training rows", 1, 10_000)
    temperature: float = _setting(0.3, "scores are divided by it in the softmax", 1e-4, 100.0)
    logq_correction: bool = _setting(
        True, "correct scores for how often an item is a negative in the batch (Yi et al. 2019)"
    )
    remove_accidental_hits: bool = _setting(
        True, "do not count the positive item as a negative where it is in the batch twice"
    )


@dataclass(frozen=True)
class IndexConfig:
    """The ScaNN index. The bounds between its kinds are those of ScaNN's own advice."""

    hashing_from: int = _setting(20_000, "items from which vectors are hashed; below: exact", 0)
    partitions_from: int = _setting(100_000, "items from which vectors are partitioned too", 0)
    leaves: int = _setting(0, "partitions; 0: the square root of the number of items", 0)
    leaves_searched_share: float = _setting(0.1, "share of the partitions searched", 0.001, 1.0)
    dimensions_per_block: int = _setting(2, "dimensions that share one hash code", 1, 64)
    anisotropic_threshold: float = _setting(0.2, "threshold of anisotropic hashing", 0.0, 1.0)
    rescored: int = _setting(500, "hashed candidates scored exactly, at the least", 1)
    rescored_per_k: float = _setting(3.0, "and at the least this many for each asked for", 1.0)


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run does, beside its data."""

    seed: int = _setting(42, "of the split, the initial weights and the order of rows", 0, 2**31)
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    index: IndexConfig = IndexConfig()


PRESETS: Mapping[str, Config] = {
    "default": Config(),
    # https://www.tensorflow.org/recommenders/examples/basic_retrieval
    "tutorial": Config(
        model=ModelConfig(embedding_dim=32, normalize=False),
        training=TrainingConfig(
            optimizer="adagrad",
            learning_rate=0.1,
            batch_size=8192,
            epochs=3,
            temperature=1.0,
            logq_correction=False,
            remove_accidental_hits=False,
        ),
    ),
}


def load(source: str = "default", settings: Iterable[str] = (), seed: int | None = None) -> Config:
    """A preset by name, or a TOML file, with ``section.key=value`` settings on top.

    Raises:
        ConfigError: no such preset or file, an unknown key, a value of the wrong
            type or out of its range.
    """
    config = PRESETS.get(source) or _from_file(Path(source))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set takes section.key=value, not {setting!r}")
        config = _apply(config, _nested(key.strip().split("."), _literal(text.strip())))
    return config if seed is None else _apply(config, {"seed": seed})


def as_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain nested values, for manifests and reports."""
    return dataclasses.asdict(config)


def _from_file(path: Path) -> Config:
    if not path.is_file():
        raise ConfigError(
            f"no preset and no file {str(path)!r}{_nearest(str(path), PRESETS)}; "
            f"presets: {', '.join(PRESETS)}"
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    preset = values.pop("preset", "default")
    if preset not in PRESETS:
        raise ConfigError(f"{path}: unknown preset {preset!r}{_nearest(str(preset), PRESETS)}")
    try:
        return _apply(PRESETS[preset], values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _apply(section: Section, values: Mapping[str, Any], prefix: str = "") -> Section:
    """A copy of ``section`` with ``values`` in place, each checked."""
    known = {f.name: f for f in fields(section)}  # type: ignore[arg-type]
    types = get_type_hints(type(section))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + key
        if key not in known:
            raise ConfigError(f"unknown setting {name!r}{_nearest(key, known, prefix)}")
        current = getattr(section, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name} is a section, not a value")
            changes[key] = _apply(current, value, f"{name}.")
        else:
            changes[key] = _checked(name, value, types[key], known[key].metadata)
    return replace(section, **changes)  # type: ignore[type-var]


def _checked(name: str, value: Any, kind: Any, metadata: Mapping[str, Any]) -> Any:
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ConfigError(f"{name} must be {_SPOKEN[kind]}, not {value!r}")
    # A NaN fails both comparisons.
    if kind is not bool and not metadata["low"] <= value <= metadata["high"]:
        raise ConfigError(f"{name} must be {metadata['low']:g} to {metadata['high']:g}: {value!r}")
    return value


_SPOKEN = {int: "a whole number", float: "a number", bool: "true or false"}


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    return {path[0]: value if len(path) == 1 else _nested(path[1:], value)}


def _literal(text: str) -> Any:
    """A TOML value; anything else is a bare word."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {prefix + matches[0]!r}?" if matches else ""
