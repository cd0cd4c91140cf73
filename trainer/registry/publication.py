"""Builds and verifies a new version, and serves it if it passes the quality gate."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from serving_contract import REPORTS, RETRIEVAL, RETRIEVAL_EXACT
from trainer.artifact.servable import VectorServable
from trainer.config import Config, GateConfig, IndexConfig
from trainer.errors import GateFailed, VerificationError
from trainer.registry import checksums, disk, layout, promotion
from trainer.registry.quality_gate import HeldOutRows, check_recall, compare_quality
from trainer.registry.store import StagedVersion, Store
from trainer.registry.version_record import CheckResult, VersionRecord, utc_now

Metrics = Mapping[str, Any]
Queries = NDArray[np.float32] | None
Notify = Callable[[str], object]


@dataclass(frozen=True, eq=False, kw_only=True)
class NewVersion:
    """A version that a pipeline wants to publish.

    Attributes:
        source: the command that made the version: ``run``, ``refresh`` or ``index``.
        settings: the configuration, of which only the sections ``index`` and ``gate`` are used.
        servable: the data from which both models are exported.
        metrics: the content of metrics.json except for ``version`` and ``index``; ``dataset`` has
            at least ``name`` and ``items``.
        write_side_files: writes all files of the version except for the models and the report into
            the given directory, including ``items.csv`` and ``seen.sqlite``.
        test_rows: the held-out rows for comparing quality; None skips the comparison.
        tuning_queries: float32 [M, D], additional queries for tuning the index, or None.
        verification_queries: float32 [M, D], queries for measuring recall; None chooses some.
    """

    source: str
    settings: Config
    servable: VectorServable
    metrics: Metrics
    write_side_files: Callable[[Path], None]
    test_rows: HeldOutRows | None = None
    tuning_queries: Queries = None
    verification_queries: Queries = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Publication:
    """Publishes new versions into one store, with steps that other packages implement.

    Attributes:
        store: the store to which versions are added.
        console: shows the progress and the results.
        build_models: takes the servable, a directory, the index configuration, the manifest, a
            callback for progress messages and the tuning queries; writes both models into the
            directory, and returns a description of each index by model name.
        verify_models: takes a directory with models, the servable and the verification queries;
            returns measurements by model name, or raises VerificationError.
        write_report: creates a directory and writes the report on the metrics into it.
        show_report: prints the metrics.
        compare_quality: compares the new exact model with the served version.
    """

    store: Store
    console: Console
    build_models: Callable[
        [VectorServable, Path, IndexConfig, Metrics, Notify, Queries], dict[str, Any]
    ]
    verify_models: Callable[[Path, VectorServable, Queries], dict[str, Any]]
    write_report: Callable[[Path, Metrics], None]
    show_report: Callable[[Console, Metrics], None]
    compare_quality: Callable[[Path, Path, HeldOutRows, GateConfig], CheckResult] = compare_quality

    def publish(self, new: NewVersion, override: str | None = None) -> int:
        """Build and verify a version, and serve it if it passes the gate; return its number.

        Args:
            new: the version to publish.
            override: the reason to serve it even if the gate fails; None respects the gate.

        Raises:
            IndexTuningError: no index reaches the target recall.
            VerificationError: a model cannot be loaded or returns wrong results. The version is
                removed.
            StoreError: the version cannot be added to the store.
            GateFailed: the version did not pass the gate. It is stored, but not served.
        """
        with self.store.staging() as staged:
            try:
                metrics = self._build(new, staged)
                record, served = self._add(new, staged, metrics, override)
            except VerificationError as error:
                raise VerificationError(f"not published: {error}") from error
        self.show_report(self.console, metrics)
        for check in record.checks.values():
            verdict = "passed" if check.passed else "FAILED"
            self.console.print(f"{verdict}: {check.text}", markup=False, soft_wrap=True)
        if not served:
            raise GateFailed(self._gate_failure(record))
        self.console.print(f"Published version {record.version} in {self.store.models_dir}")
        return record.version

    def _build(self, new: NewVersion, staged: StagedVersion) -> Metrics:
        """Write all files of the version except its record; return the content of metrics.json."""
        directory = staged.directory
        manifest = {**new.metrics, "version": staged.version}
        indexes = self.build_models(
            new.servable,
            directory,
            new.settings.index,
            manifest,
            self.console.print,
            new.tuning_queries,
        )
        new.write_side_files(directory)
        self.console.print("Verifying the exported models in a fresh process")
        measured = self.verify_models(directory, new.servable, new.verification_queries)
        metrics = manifest | {"index": {name: measured[name] | indexes[name] for name in measured}}
        self.write_report(directory / REPORTS, metrics)
        layout.arrange(staged)
        return metrics

    def _add(
        self, new: NewVersion, staged: StagedVersion, metrics: Metrics, override: str | None
    ) -> tuple[VersionRecord, bool]:
        """Add the version, and serve it if it passes the gate.

        Return the version's record, and True if the version is served. If another version is
        promoted in the meantime, quality is compared again, with that version.
        """
        index = metrics["index"][RETRIEVAL]
        record = VersionRecord(
            version=staged.version,
            created=utc_now(),
            source=new.source,
            dataset=metrics["dataset"]["name"],
            items=metrics["dataset"]["items"],
            unseen_top_100=(
                metrics["test"]["unseen_items"]["top_100"] if "test" in metrics else None
            ),
            index_recall_at_100=index["recall_at_100"],
            checks={},
            test_rows=new.test_rows.fingerprint() if new.test_rows else None,
            files=checksums.compute(staged),
        )
        disk.sync_tree(staged.directory)
        while True:
            current = self.store.current()
            checks = {
                "recall": check_recall(index, new.settings.index.target_recall),
                "quality": self._check_quality(new, staged, current),
            }
            record = replace(record, checks=checks)
            try:
                served = promotion.add(
                    self.store, staged, record, served=current, override=override
                )
            except promotion.ServedVersionChanged:
                continue
            return record, served

    def _check_quality(
        self, new: NewVersion, staged: StagedVersion, current: int | None
    ) -> CheckResult:
        if new.test_rows is None:
            return CheckResult(True, "quality was not compared: there are no test rows")
        if current is None:
            return CheckResult(True, "quality was not compared: no version was served before")
        self.console.print(f"Comparing with version {current}, which is served")
        return self.compare_quality(
            staged.directory / RETRIEVAL_EXACT / str(staged.version),
            self.store.directory(current),
            new.test_rows,
            new.settings.gate,
        )

    def _gate_failure(self, record: VersionRecord) -> str:
        """Return a message with the reason why the version is not served, and how to serve it."""
        return (
            f"version {record.version} is not served: {'; '.join(record.failures)}. It is "
            f"kept. To serve it anyway: python -m trainer promote {record.version} "
            f"--models-dir {shlex.quote(str(self.store.models_dir))} --reason TEXT"
        )
