"""The file ``version.json``: a version's origin, gate results, checksums and promotions."""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.errors import StoreError
from trainer.registry import disk

VERSION_JSON = "version.json"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check by the quality gate.

    Attributes:
        passed: True if the check allows the version to be served.
        text: a sentence that describes the measurement.
        values: the measured numbers.
    """

    passed: bool
    text: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Promotion:
    """One change of the served version.

    Attributes:
        at: the time of the promotion in UTC, ISO 8601.
        by: the command that promoted the version, such as ``run``, ``promote`` or ``rollback``.
        previous: the versions to which a rollback can return, in the order of preference.
        reason: the reason that the user gave, or None.
    """

    at: str
    by: str
    previous: list[int]
    reason: str | None = None


@dataclass(frozen=True)
class VersionRecord:
    """The content of ``version.json``.

    Attributes:
        version: the version number.
        created: the time of creation in UTC, ISO 8601.
        source: the command that created the version: ``run``, ``refresh`` or ``index``.
        dataset: the name of the data set.
        items: the number of items in the catalogue.
        unseen_top_100: the metric ``unseen_items.top_100``; None without test rows.
        index_recall_at_100: the recall of the approximate index.
        checks: the results of the quality gate, by name.
        test_rows: a fingerprint of the held-out rows; None without test rows.
        files: SHA-256 by path; see :mod:`trainer.registry.checksums`.
        promotions: all promotions, oldest first. A promotion is written before the served version
            changes, so it may never have taken effect if a process was killed in between.
    """

    version: int
    created: str
    source: str
    dataset: str
    items: int
    unseen_top_100: float | None
    index_recall_at_100: float
    checks: dict[str, CheckResult]
    test_rows: str | None
    files: dict[str, str] = field(default_factory=dict)
    promotions: list[Promotion] = field(default_factory=list)

    @classmethod
    def read(cls, directory: Path) -> "VersionRecord":
        """Return the record of the version in ``directory``.

        Raises:
            StoreError: ``version.json`` is missing or malformed.
        """
        path = directory / VERSION_JSON
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            checks = {name: CheckResult(**check) for name, check in values.pop("checks").items()}
            promotions = [Promotion(**promotion) for promotion in values.pop("promotions")]
            return cls(checks=checks, promotions=promotions, **values)
        # Deeply nested JSON raises RecursionError.
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StoreError(f"{path} is not the record of a version: {error}") from error

    def write(self, directory: Path) -> None:
        """Write ``version.json`` into the version's directory atomically."""
        disk.replace_text(directory / VERSION_JSON, json.dumps(asdict(self), indent=2) + "\n")

    @property
    def failures(self) -> list[str]:
        """The ``text`` of each failed check."""
        return [check.text for check in self.checks.values() if not check.passed]

    @property
    def gate(self) -> str:
        """The verdict of the quality gate: ``passed``, ``overridden`` or ``failed``."""
        if not self.failures:
            return "passed"
        return "overridden" if any(promotion.reason for promotion in self.promotions) else "failed"

    def with_promotion(self, by: str, previous: list[int], reason: str | None) -> "VersionRecord":
        """Return the record with an additional promotion at the current time."""
        promotion = Promotion(utc_now(), by, previous, reason)
        return replace(self, promotions=[*self.promotions, promotion])


def utc_now() -> str:
    """Return the current time in UTC, in ISO 8601 format with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
