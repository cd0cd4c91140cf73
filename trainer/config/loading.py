"""A preset or a TOML file, with single fields changed by ``--set``; each value is checked.

preset = "tutorial"
[training]
epochs = 5
"""

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from trainer.config.presets import PRESETS
from trainer.config.sections import Config

Section = TypeVar("Section")

#: A configuration has some dozen lines.
_MAX_BYTES = 1_000_000
#: No setting is deeper; what has more dots is unknown all the same.
_DEEPEST = 2


class ConfigError(Exception):
    """A configuration that cannot be used. The message names the field."""


def load(source: str = "default", settings: Iterable[str] = (), seed: int | None = None) -> Config:
    """A preset by name, or a TOML file, with ``section.key=value`` settings on top.

    Raises:
        ConfigError: no such preset or file, an unknown key, a value of the wrong
            type or out of its range, or values that do not go together.
    """
    config = PRESETS.get(source) or _from_file(Path(source))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set takes section.key=value, not {setting!r}")
        config = change(config, key.strip(), _literal(text.strip()))
    if seed is not None:
        config = change(config, "seed", seed)
    # Only now: one setting may make up for another.
    if not (config.model.history_length or config.model.user_id or config.model.user_features):
        raise ConfigError(
            "queries would be made of nothing: model.history_length is 0, model.user_id is false "
            "and model.user_features names no column"
        )
    return config


def change(config: Config, key: str, value: Any) -> Config:
    """A copy with one setting changed, ``key`` being ``section.key``.

    Raises:
        ConfigError: no such setting, or a value that it cannot have.
    """
    return _apply(config, _nested(key.split(".", maxsplit=_DEEPEST), value))


def preset_of(source: str) -> str:
    """The name of the preset that ``source``, as :func:`load` takes it, is or starts from.

    Raises:
        ConfigError: no such preset or file.
    """
    return source if source in PRESETS else _read(Path(source))[0]


def as_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain nested values, as JSON gives them back: for manifests, reports."""

    def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in pairs}

    return dataclasses.asdict(config, dict_factory=plain)


def from_dict(values: Mapping[str, Any]) -> Config:
    """What :func:`as_dict` was called on.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type or out of its range.
    """
    return _apply(Config(), values)


def _from_file(path: Path) -> Config:
    preset, values = _read(path)
    try:
        return _apply(PRESETS[preset], values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """A file's preset, and what it changes of it, not yet checked."""
    if not path.is_file():
        raise ConfigError(
            f"no preset and no file {str(path)!r}{_nearest(str(path), PRESETS)}; "
            f"presets: {', '.join(PRESETS)}"
        )
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{path}: more than {_MAX_BYTES:,} bytes: not a configuration")
    try:
        values = tomllib.loads(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    # Besides TOMLDecodeError, of text that is not UTF-8 and of numbers with thousands of digits.
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    preset = values.pop("preset", "default")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(
            f"{path}: unknown preset {_shown(preset)}{_nearest(str(preset), PRESETS)}"
        )
    return preset, values


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
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {_shown(value)}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not all(type(one) is str for one in value):
            raise ConfigError(
                f'{name} must be a list of words, ["like", "this"], not {_shown(value)}'
            )
        return tuple(value)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ConfigError(f"{name} must be {_SPOKEN[kind]}, not {_shown(value)}")
    # A NaN fails both comparisons.
    if kind is not bool and not metadata["low"] <= value <= metadata["high"]:
        raise ConfigError(
            f"{name} must be {metadata['low']:g} to {metadata['high']:g}: {_shown(value)}"
        )
    return kind(value)


_SPOKEN = {int: "a whole number", float: "a number", bool: "true or false"}


def _shown(value: Any) -> str:
    """A value of a file, for a message."""
    try:
        text = repr(value)
    # Python does not write out numbers of thousands of digits.
    except ValueError:
        return "a number that is too large"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    return {path[0]: value if len(path) == 1 else _nested(path[1:], value)}


def _literal(text: str) -> Any:
    """A TOML value; anything else is a bare word."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {prefix + matches[0]!r}?" if matches else ""
