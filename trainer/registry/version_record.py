"""The file ``version.json``: origin, gate results, checksums and promotions of a version."""

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
    """The result of one check of the quality gate.

    Attributes:
        passed: True if this check allows the version to be served.
        text: the measurement in words, for people.
        values: the measured numbers, for programs.
    """

    passed: bool
    text: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Promotion:
    """One change of the served version.

    Attributes:
        at: the time in UTC, ISO 8601.
        by: the command that promoted the version: ``run``, ``promote``, ``rollback`` and so on.
        previous: the versions that a rollback can return to, in the order in which it tries them.
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
        version: the version's number.
        created: the time of its creation in UTC, ISO 8601.
        source: the command that created it: ``run``, ``refresh`` or ``index``.
        dataset: the name of the data set.
        items: the number of items in the catalogue.
        unseen_top_100: the metric ``unseen_items.top_100``; None without test rows.
        index_recall_at_100: the recall of the approximate index.
        checks: the results of the quality gate, by name.
        test_rows: a fingerprint of the held-out rows; None without test rows.
        files: SHA-256 by path; see :mod:`trainer.registry.checksums`.
        promotions: every promotion, oldest first. Each is written before the served version
            changes, so a process killed in between may leave one that never took effect.
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
        """The texts of the checks that failed."""
        return [check.text for check in self.checks.values() if not check.passed]

    @property
    def gate(self) -> str:
        """The gate's verdict: ``passed``, ``overridden`` or ``failed``."""
        if not self.failures:
            return "passed"
        return "overridden" if any(promotion.reason for promotion in self.promotions) else "failed"

    def with_promotion(self, by: str, previous: list[int], reason: str | None) -> "VersionRecord":
        """Return the record with one more promotion, made now."""
        promotion = Promotion(utc_now(), by, previous, reason)
        return replace(self, promotions=[*self.promotions, promotion])


def utc_now() -> str:
    """Return the current time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
