"""Where a published version's files are: the one place of this package that knows."""

from dataclasses import dataclass
from pathlib import Path

from serving_contract import METRICS_JSON, REPORTS, RETRIEVAL, SEEN_SQLITE, TOWERS
from trainer.data.types import DataError


@dataclass(frozen=True)
class Version:
    """A published version.

    Attributes:
        number: of the version.
        towers: what :mod:`trainer.refresh.stored` wrote.
        metrics: its metrics.json.
        seen: the seen store in use, whatever the version.
    """

    number: int
    towers: Path
    metrics: Path
    seen: Path


def find(models_dir: Path, number: int | None = None) -> Version:
    """A version, or the one that is served.

    Raises:
        DataError: there is none.
    """
    there = sorted(
        int(path.name)
        for path in (models_dir / RETRIEVAL).glob("*")
        if path.name.isascii() and path.name.isdigit()
    )
    if not there:
        raise DataError(f"{models_dir} has no version to refresh: train one with `run`")
    if number is not None and number not in there:
        raise DataError(
            f"no version {number} in {models_dir}; there is: {', '.join(map(str, there))}"
        )
    number = there[-1] if number is None else number
    report = models_dir / REPORTS / str(number)
    return Version(number, report / TOWERS, report / METRICS_JSON, models_dir / SEEN_SQLITE)
