"""Arguments and value types that several commands share."""

import argparse
import math
from pathlib import Path


def add_models_dir(parser: argparse.ArgumentParser) -> None:
    """Add the required ``--models-dir``."""
    parser.add_argument(
        "--models-dir",
        type=Path,
        metavar="DIR",
        required=True,
        help="The directory that contains the published versions.",
    )


def add_file(
    parser: argparse.ArgumentParser, flag: str, text: str, *, required: bool = False
) -> None:
    """Add a flag with the help ``text`` whose value is the path of a file."""
    parser.add_argument(flag, type=Path, metavar="FILE", required=required, help=text)


def add_set(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Add the repeatable ``--set``."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar=metavar,
        help="Change one setting. This flag can be repeated.",
    )


def positive_int(text: str) -> int:
    """Parse an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def positive_float(text: str) -> float:
    """Parse a finite number above 0."""
    value = float(text)
    # This comparison rejects NaN as well.
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def nonempty(text: str) -> str:
    """Return ``text`` without surrounding blanks; refuse a blank text."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text.strip()
