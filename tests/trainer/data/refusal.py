"""Tells apart refused files and readable ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.errors import DataError


def is_refused(load: Callable[[Path], Any], path: Path) -> bool:
    """Return True if ``load`` raises DataError; any other error fails the test."""
    try:
        load(path)
    except DataError as error:
        assert str(path.parent) in str(error)  # noqa: PT017
        return True
    return False
