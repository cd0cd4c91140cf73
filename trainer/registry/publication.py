"""Through the gate: a staged version is verified, judged, kept and, if it passes, served."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from serving_contract import REPORTS, RETRIEVAL, RETRIEVAL_EXACT
from trainer import probe as verify
from trainer import report
from trainer.artifact.servable import VectorServable
from trainer.config import Config
from trainer.errors import Refused
from trainer.registry import checksums as sealing
from trainer.registry import disk
from trainer.registry import promotion as switching
from trainer.registry import quality_gate as quality
from trainer.registry import version_record as record
from trainer.registry.quality_gate import TestRows
from trainer.registry.store import Staged, Store
from trainer.registry.version_record import Check, Record

# Of the recall that is measured on a sample of the queries.
_STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Outcome:
    """What became of a version.

    Attributes:
        record: what was found of it.
        metrics: what metrics.json holds.
        published: whether it is served now. If not, it is kept all the same.
    """

    record: Record
    metrics: dict[str, Any]
    published: bool


def publish(
    store: Store,
    staged: Staged,
    servable: VectorServable,
    metrics: Mapping[str, Any],
    settings: Config,
    console: Console,
    *,
    source: str,
    rows: TestRows | None,
    queries: NDArray[np.float32] | None = None,
    override: str | None = None,
) -> Outcome:
    """Publish what ``staged.directory`` holds, if it passes; else keep it unpublished.

    Args:
        store: where to.
        staged: has ``retrieval`` and ``retrieval_exact``, as ``saved_model.save`` writes them,
            ``items.csv`` and ``seen.sqlite``. Everything else is written here.
        servable: what the models were exported from.
        metrics: metrics.json but for ``version`` and what is measured here; ``index``
            holds each index's parameters by model name, ``dataset`` at least ``name``
            and ``items``.
        settings: ``index.target_recall`` and ``gate``.
        console: what goes on is said there.
        source: the command, for the record.
        rows: what was held out; None where nothing was, and then quality is no part of
            the gate.
        queries: as :func:`trainer.probe.verify` takes them.
        override: why it is to be published even if recall or quality fall short.

    Raises:
        VerificationError: a model cannot be loaded or answers wrongly: it is not kept.
        StoreError: as of :meth:`Store.lock`, or something is missing in ``staged``.
    """
    console.print("Verifying the exported models in a fresh process")
    measured = verify.verify(staged.directory, servable, queries)
    index = {name: measured[name] | metrics["index"][name] for name in measured}
    written = {**metrics, "version": staged.version, "index": index}
    report.write(staged.directory / REPORTS, written)
    sealing.arrange(staged)
    exact = staged.directory / RETRIEVAL_EXACT / str(staged.version)
    found = Record(
        version=staged.version,
        created=record.now(),
        source=source,
        dataset=metrics["dataset"]["name"],
        items=metrics["dataset"]["items"],
        unseen_top_100=metrics["test"]["unseen_items"]["top_100"] if "test" in metrics else None,
        index_recall_at_100=index[RETRIEVAL]["recall_at_100"],
        checks={},
        test_rows=rows.fingerprint() if rows else None,
        files=sealing.digests(staged),
    )
    disk.sync_tree(staged.directory)
    while True:
        serving = store.current()
        checks = {
            "recall": _recall(index[RETRIEVAL], settings.index.target_recall),
            "quality": _quality(store, serving, exact, rows, settings, console),
        }
        judged = replace(found, checks=checks)
        published = switching.admit(store, staged, judged, serving, override)
        # Another version is served by now: this one is measured against that.
        if published is not None:
            kept = record.read(store.directory(staged.version))
            return Outcome(kept, written, published)


def conclude(outcome: Outcome, models_dir: Path, console: Console) -> None:
    """Show what was measured and what became of the version.

    Raises:
        Refused: it is not published; with the reason and what can be done.
    """
    report.show(console, outcome.metrics)
    for check in outcome.record.checks.values():
        console.print(
            f"{'passed' if check.passed else 'FAILED'}: {check.text}", markup=False, soft_wrap=True
        )
    if not outcome.published:
        raise Refused(refusal(outcome, models_dir))
    console.print(f"Published version {outcome.record.version} in {models_dir}")


def refusal(outcome: Outcome, models_dir: Path) -> str:
    """Why it was not published, and what can be done."""
    version = outcome.record.version
    return (
        f"version {version} is not published: {'; '.join(outcome.record.failed)}. It is kept: "
        f"python -m trainer promote {version} --models-dir {shlex.quote(str(models_dir))} "
        f"--reason TEXT publishes it all the same"
    )


def _recall(index: Mapping[str, Any], target: float) -> Check:
    """Below the target by no more than chance is not below it."""
    value, error = index["recall_at_100"], index.get("recall_at_100_error", 0.0)
    text = f"recall@100 of the index is {value:.4f}, {target:g} is asked for"
    passed = value + _STANDARD_ERRORS * error >= target
    if passed and value < target:
        text += f"; measured to within {_STANDARD_ERRORS * error:.4f}"
    return Check(passed, text, {"recall_at_100": value, "standard_error": error, "target": target})


def _quality(
    store: Store,
    serving: int | None,
    exact: Path,
    rows: TestRows | None,
    settings: Config,
    console: Console,
) -> Check:
    if rows is None:
        return Check(True, "quality was not compared: there are no test rows")
    if serving is None:
        return Check(True, "quality was not compared: no version was served before")
    console.print(f"Comparing with version {serving}, which is served")
    return quality.compare(exact, store.existing(serving), rows, settings.gate)
