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
    history_length: int = _setting(
        500, "how many of a user's newest items make the query; 0: none of them", 0, 100_000
    )
    history_exponent: float = _setting(0.5, "0: their sum, 1: their mean", 0.0, 1.0)
    user_id: bool = _setting(False, "give every user a vector of their own beside the history")
    user_id_dropout: float = _setting(
        0.0, "share of the users that a step treats as without that vector", 0.0, 1.0
    )
    user_features: tuple[str, ...] = _setting(
        (), "columns of users, name:kind or name (category, tags, number, text); auto: every one"
    )
    item_features: tuple[str, ...] = _setting(("auto",), "columns of items, in the same way")
    item_id_dropout: float = _setting(
        0.1, "share of the items that a step knows by their features alone", 0.0, 1.0
    )


@dataclass(frozen=True)
class TrainingConfig:
    """What is predicted from what, against which candidates, and how long."""

    objective: Literal["auto", "full_softmax", "sampled_softmax", "in_batch"] = _setting(
        "auto",
        "a softmax over the whole catalogue, over a sample of it, or over the rows of the batch; "
        "auto: the whole one up to 20,000 items, else a sample",
    )
    targets: Literal["auto", "random", "future"] = _setting(
        "auto",
        "predict some of a user's items from the others, or the later from the earlier ones; "
        "auto: as the split holds out",
    )
    kept_weight: float = _setting(
        0.0, "of the items of the query as targets beside those left out of it", 0.0, 1.0
    )
    batch_size: int = _setting(
        128, "users of a step; with the in_batch objective rows, the others' items as negatives", 2
    )
    negatives: int = _setting(4096, "items drawn as negatives beside those of the batch", 0)
    negatives_from: Literal["uniform", "popularity"] = _setting(
        "uniform", "every item alike, or by its number of training rows"
    )
    hard_negatives: int = _setting(
        0, "how many of the negatives count, the highest scored; 0: all", 0
    )
    temperature: float = _setting(0.25, "scores are divided by it in the softmax", 1e-4, 100.0)
    logq_correction: bool = _setting(
        True, "correct scores for how often an item is a candidate (Yi et al. 2019)"
    )
    remove_accidental_hits: bool = _setting(
        True, "in_batch: a user's item is not a negative where it is in the batch again"
    )
    optimizer: Literal["adagrad", "adam"] = _setting("adam", "Keras optimiser")
    learning_rate: float = _setting(0.02, "its learning rate", 1e-7, 10.0)
    learning_rate_decay: bool = _setting(True, "to zero over the epochs, by half a cosine")
    epochs: int = _setting(100, "passes over the training rows, at the most", 1, 10_000)
    validation_share: float = _setting(
        0.1, "share of the training rows on which training is watched; 0: it is not", 0.0, 0.5
    )
    patience: int = _setting(10, "epochs without a better validation after which it ends", 1)
    refit: bool = _setting(True, "then train again on all rows, for as many epochs as were best")


@dataclass(frozen=True)
class ItemToItemConfig:
    """Similar items: the candidate tower's own vectors, or a tower trained for it."""

    trained: bool = _setting(False, "learn query vectors of items from what users did next")
    learning_rate: float = _setting(0.01, "of Adam", 1e-7, 10.0)
    batch_size: int = _setting(1024, "pairs of consecutive items in a step", 2)
    epochs: int = _setting(20, "passes over the pairs", 1, 10_000)
    temperature: float = _setting(0.1, "scores are divided by it in the softmax", 1e-4, 100.0)


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
    item_to_item: ItemToItemConfig = ItemToItemConfig()
    index: IndexConfig = IndexConfig()


PRESETS: Mapping[str, Config] = {
    "default": Config(),
    "movielens-100k": Config(
        model=ModelConfig(embedding_dim=128, history_exponent=0.3),
        training=TrainingConfig(kept_weight=0.3),
    ),
    # https://www.tensorflow.org/recommenders/examples/basic_retrieval
    "tutorial": Config(
        model=ModelConfig(
            embedding_dim=32, normalize=False, history_length=0, user_id=True, item_features=()
        ),
        training=TrainingConfig(
            objective="in_batch",
            batch_size=8192,
            negatives=0,
            temperature=1.0,
            logq_correction=False,
            remove_accidental_hits=False,
            optimizer="adagrad",
            learning_rate=0.1,
            learning_rate_decay=False,
            epochs=3,
            validation_share=0.0,
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
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not all(type(one) is str for one in value):
            raise ConfigError(f'{name} must be a list of words, ["like", "this"], not {value!r}')
        return tuple(value)
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
