"""Checks a stored version again: the files, the models' answers and the recall of the index."""

from collections.abc import Mapping
from typing import Any

from trainer.errors import VerificationError
from trainer.probe.stored_version import probe_stored_version
from trainer.registry import checksums
from trainer.registry.store import Store
from trainer.registry.version_record import VersionRecord

# Recall is measured with other queries than in the quality gate, so it may be lower by chance.
_STANDARD_ERRORS = 3.0


def reevaluate(store: Store, version: int) -> dict[str, Any]:
    """Compare a version's checksums, replay its warm-up requests and measure its recall.

    Returns:
        ``files``, the number of files compared, and the measurements from
        :func:`trainer.probe.stored_version.probe_stored_version`.

    Raises:
        StoreError: there is no such version, or its files have changed.
        VerificationError: a model cannot be loaded or returns wrong results, or recall is below the
            target, which the version reached when it was published.
    """
    directory = store.directory(version)
    record = VersionRecord.read(directory)
    files = checksums.verify(directory, record)
    try:
        measured = probe_stored_version(directory, version, record.items)
    except VerificationError as error:
        raise VerificationError(f"version {version}: {error}") from error
    if problem := recall_problem(record, measured):
        raise VerificationError(f"version {version}: {problem}")
    return {"files": files, **measured}


def recall_problem(record: VersionRecord, measured: Mapping[str, Any]) -> str | None:
    """Return a message if recall is below the target that the version once reached, or None.

    Args:
        record: the version's record.
        measured: ``recall_at_100``, which may be None, and the ``standard_error`` of recall.
    """
    gate, recall = record.checks["recall"], measured["recall_at_100"]
    target = gate.values["target"]
    tolerance = _STANDARD_ERRORS * measured["standard_error"]
    if not gate.passed or recall is None or recall + tolerance >= target:
        return None
    return f"recall@100 of the index is {recall:.4f}; the target is {target:g}"
