"""A configuration as a TOML file: its preset, and what differs from it."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from trainer.config.loading import as_dict
from trainer.config.presets import PRESETS
from trainer.config.sections import Config


def write(path: Path, config: Config, preset: str, comments: Iterable[str] = ()) -> None:
    """Write what ``load(str(path))`` makes the same ``config`` of.

    By one rename: another reader finds what was there, or all of it.

    Args:
        path: of the file.
        config: what it is to say.
        preset: which of the presets it starts from.
        comments: lines above.

    Raises:
        OSError: it cannot be written.
    """
    values = {"preset": preset, **_differing(as_dict(config), as_dict(PRESETS[preset]))}
    text = "".join(f"# {line}\n" for line in comments) + "\n" + tomli_w.dumps(values)
    # Beside it, so that the rename stays on one file system.
    unfinished = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in ours.items():
        if isinstance(value, Mapping):
            if section := _differing(value, theirs[key]):
                found[key] = section
        elif value != theirs[key]:
            found[key] = value
    return found
