"""``version.json``: what a version is, how it was judged, when it was served."""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.errors import StoreError
from trainer.registry import disk

VERSION_JSON = "version.json"


@dataclass(frozen=True)
class Check:
    """One part of the gate.

    Attributes:
        passed: whether the version may be published, as far as this goes.
        text: what was found, for people.
        values: the numbers in it, for programs.
    """

    passed: bool
    text: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Promotion:
    """One time that a version became the served one.

    Attributes:
        at: UTC, ISO 8601.
        by: the command: ``run``, ``promote``, ``rollback`` and so on.
        previous: the versions to go back to, the first one first.
        reason: why, where somebody gave one.
    """

    at: str
    by: str
    previous: list[int]
    reason: str | None = None


@dataclass(frozen=True)
class Record:
    """What version.json holds.

    Attributes:
        version: the number.
        created: UTC, ISO 8601.
        source: the command that made it: ``run``, ``refresh``, ``index``.
        dataset: the name of its data.
        items: in its catalogue.
        unseen_top_100: the report's figure; None where there were no test rows.
        index_recall_at_100: of the ScaNN index.
        checks: the gate's, by name.
        test_rows: a fingerprint of the rows held out; None where there were none.
        files: SHA-256 by path, of all files but the models' and version.json. Each model
            has its own list in manifest.json, and that file is in this one.
        promotions: the last one last. Written before the link is changed, so a process
            that was killed in between may leave one more than there were.
    """

    version: int
    created: str
    source: str
    dataset: str
    items: int
    unseen_top_100: float | None
    index_recall_at_100: float
    checks: dict[str, Check]
    test_rows: str | None
    files: dict[str, str] = field(default_factory=dict)
    promotions: list[Promotion] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """What the gate found wanting, for people."""
        return [check.text for check in self.checks.values() if not check.passed]

    @property
    def gate(self) -> str:
        """In a word: passed, overridden or failed."""
        if not self.failed:
            return "passed"
        return "overridden" if any(one.reason for one in self.promotions) else "failed"

    def promoted(self, by: str, previous: list[int], reason: str | None) -> "Record":
        """With one more promotion, now."""
        return replace(self, promotions=[*self.promotions, Promotion(now(), by, previous, reason)])

    def write(self, directory: Path) -> None:
        """Into the version's directory, by one rename."""
        disk.replace_text(directory / VERSION_JSON, json.dumps(asdict(self), indent=2) + "\n")


def read(directory: Path) -> Record:
    """The record of the version in ``directory``.

    Raises:
        StoreError: there is none, or it is not one.
    """
    path = directory / VERSION_JSON
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        checks = {name: Check(**check) for name, check in values.pop("checks").items()}
        promotions = [Promotion(**one) for one in values.pop("promotions")]
        return Record(checks=checks, promotions=promotions, **values)
    # The last of them where it is nested without end.
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path} is not the record of a version: {error}") from error


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
