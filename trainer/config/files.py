"""Reads configurations from presets, TOML files and ``--set``, and writes TOML files.

A file names the preset that it is based on, and the settings that it changes:

    preset = "tutorial"
    [training]
    epochs = 5
"""

import dataclasses
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from config_fields import shown, suggestion
from trainer.config.presets import PRESETS
from trainer.config.sections import Config
from trainer.errors import ConfigError

Section = TypeVar("Section")

_DEFAULT_PRESET = "default"
_MAX_FILE_BYTES = 1_000_000
# ``section.key`` has one dot. Splitting a key at two dots at most limits the nesting of sections.
_MAX_DOTS = 2


def load(
    source: str = _DEFAULT_PRESET, settings: Iterable[str] = (), seed: int | None = None
) -> Config:
    """Return the configuration that a command line specifies.

    Args:
        source: the name of a preset, or the path of a TOML file.
        settings: changes, each ``section.key=value`` with a TOML value or a bare word.
        seed: replaces the seed of the configuration.

    Raises:
        ConfigError: there is no such preset or file, a key is unknown, a value has the wrong type
            or is out of range, or queries would be empty.
    """
    config = PRESETS.get(source) or _from_file(Path(source))
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set takes section.key=value, not {text!r}")
        config = change(config, key.strip(), _toml_value(value.strip()))
    if seed is not None:
        config = change(config, "seed", seed)
    # Check this last, because a later change may make an earlier change valid.
    if not (config.model.history_length or config.model.user_id or config.model.user_features):
        raise ConfigError(
            "queries would be empty: model.history_length is 0, model.user_id is false and "
            "model.user_features is empty; set at least one of them"
        )
    return config


def change(config: Config, key: str, value: Any) -> Config:
    """Return a copy of ``config`` with one setting changed; ``key`` is ``section.key``.

    Raises:
        ConfigError: there is no such setting, or the value is invalid.
    """
    changes: Any = value
    for part in reversed(key.split(".", maxsplit=_MAX_DOTS)):
        changes = {part: changes}
    return _with_changes(config, changes)


def as_dict(config: Config) -> dict[str, Any]:
    """Return the configuration as nested dicts, with lists instead of tuples, as JSON has them."""

    def section(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields}

    return dataclasses.asdict(config, dict_factory=section)


def from_dict(values: Mapping[str, Any]) -> Config:
    """Restore a configuration from the result of :func:`as_dict`, even if it was stored as JSON.

    Raises:
        ConfigError: a key is unknown or a value is invalid.
    """
    return _with_changes(Config(), values)


def write(path: Path, config: Config, comments: Iterable[str] = ()) -> None:
    """Write a file from which ``load(str(path))`` restores ``config``.

    The file contains the settings that differ from the preset ``default``. It is replaced
    atomically: a reader sees either the old or the new content.

    Args:
        path: the file.
        config: the configuration.
        comments: lines of text at the top of the file.

    Raises:
        OSError: the file cannot be written.
    """
    values = _differences(as_dict(config), as_dict(PRESETS[_DEFAULT_PRESET]))
    text = "".join(f"# {line}\n" for line in comments) + "\n" + tomli_w.dumps(values)
    # A rename is atomic only within one file system, so use the same directory.
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _from_file(path: Path) -> Config:
    """Return the preset that a file is based on, with the changes that the file makes."""
    if not path.is_file():
        raise ConfigError(
            f"there is neither a preset nor a file {str(path)!r}{suggestion(str(path), PRESETS)}; "
            f"the presets are {', '.join(PRESETS)}"
        )
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(
            f"{path} has more than {_MAX_FILE_BYTES:,} bytes and so is not a configuration file"
        )
    try:
        values = tomllib.loads(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise ConfigError(f"{path}: tables or arrays are nested too deeply") from error
    # A TOMLDecodeError, a UnicodeDecodeError, or the error for a number with thousands of digits.
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    preset = values.pop("preset", _DEFAULT_PRESET)
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(
            f"{path}: unknown preset {shown(preset)}{suggestion(str(preset), PRESETS)}; "
            f"the presets are {', '.join(PRESETS)}"
        )
    try:
        return _with_changes(PRESETS[preset], values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _with_changes(section: Section, values: Mapping[str, Any], prefix: str = "") -> Section:
    """Return a copy of a section or of the whole configuration, with ``values`` replaced."""
    names = [field.name for field in dataclasses.fields(section)]  # type: ignore[arg-type]
    changes = dict(values)
    for key, value in values.items():
        if key not in names:
            raise ConfigError(f"unknown setting {prefix + key!r}{suggestion(key, names, prefix)}")
        current = getattr(section, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{key} is a section, not a setting; use {key}.KEY to change one of its values"
                )
            changes[key] = _with_changes(current, value, f"{prefix}{key}.")
    try:
        return dataclasses.replace(section, **changes)  # type: ignore[type-var]
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _toml_value(text: str) -> Any:
    """Parse ``text`` as a TOML value. Text that is not TOML is returned as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _differences(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of ``values``, and of its sections, that differ from ``defaults``."""
    different: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            if section := _differences(value, defaults[key]):
                different[key] = section
        elif value != defaults[key]:
            different[key] = value
    return different
