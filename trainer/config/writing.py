"""Writes a configuration as a TOML file: its preset, and the settings that differ from it."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from trainer.config.loading import as_dict
from trainer.config.presets import PRESETS
from trainer.config.sections import Config


def write(path: Path, config: Config, preset: str, comments: Iterable[str] = ()) -> None:
    """Write a file from which ``load(str(path))`` restores ``config``.

    The file is replaced atomically: a reader sees either its old or its new content.

    Args:
        path: the file to write.
        config: the configuration.
        preset: the name of the preset that the file is based on.
        comments: lines of text for the top of the file.

    Raises:
        OSError: the file cannot be written.
    """
    values = {"preset": preset, **_differences(as_dict(config), as_dict(PRESETS[preset]))}
    text = "".join(f"# {line}\n" for line in comments) + "\n" + tomli_w.dumps(values)
    # In the same directory, because a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _differences(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of ``values`` that differ from ``defaults``, also within sections."""
    different: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            if section := _differences(value, defaults[key]):
                different[key] = section
        elif value != defaults[key]:
            different[key] = value
    return different
