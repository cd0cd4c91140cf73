"""Checks a stored version again: its files, its models' answers and its index's recall."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.errors import VerificationError
from trainer.probe.stored_version import probe_stored_version
from trainer.registry import checksums
from trainer.registry.store import Store
from trainer.registry.version_record import VersionRecord

# The recall is measured with other queries than those of the gate, so it may be lower by chance.
_STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Reevaluation:
    """The measurements of a stored version that passed all checks.

    Attributes:
        files: the number of files whose checksums were compared.
        requests: the number of warm-up requests that were answered.
        recall_at_100: the recall of the approximate index; None if the version stores no id that
            its models know.
        queries: the number of queries that the recall was measured with.
    """

    files: int
    requests: int
    recall_at_100: float | None
    queries: int


def reevaluate(store: Store, version: int) -> Reevaluation:
    """Compare a version's checksums, replay its warm-up requests and measure its recall.

    Raises:
        StoreError: there is no such version, or its files have changed.
        VerificationError: a model cannot be loaded or returns wrong results, or the recall is below
            the target that the version once reached.
    """
    directory = store.existing(version)
    record = VersionRecord.read(directory)
    files = checksums.verify(directory, record)
    try:
        measured = probe_stored_version(directory, version, record.items)
    except VerificationError as error:
        raise VerificationError(f"version {version}: {error}") from error
    if problem := recall_problem(record, measured):
        raise VerificationError(f"version {version}: {problem}")
    return Reevaluation(files, measured["requests"], measured["recall_at_100"], measured["queries"])


def recall_problem(record: VersionRecord, measured: Mapping[str, Any]) -> str | None:
    """Return a message if a version that once reached its recall target misses it, or None.

    Args:
        record: the version's record.
        measured: ``recall_at_100``, which may be None, and its ``standard_error``.
    """
    gate, recall = record.checks["recall"], measured["recall_at_100"]
    target = gate.values["target"]
    tolerance = _STANDARD_ERRORS * measured["standard_error"]
    if not gate.passed or recall is None or recall + tolerance >= target:
        return None
    return f"recall@100 of the index is {recall:.4f}; the target is {target:g}"
