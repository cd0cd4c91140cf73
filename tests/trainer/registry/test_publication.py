"""A version is served only if it is verified and passes its gate. The models are real and exact."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.trainer.registry.planted import ITEMS, Planted, held_out_rows
from trainer import config, evaluation
from trainer.artifact import saved_model, side_files
from trainer.artifact.servable import VectorServable
from trainer.errors import GateFailed, StoreError, VerificationError
from trainer.index.exact import ExactIndex
from trainer.probe.exported_models import check_exported_models
from trainer.registry.publication import NewVersion, Publication
from trainer.registry.quality_gate import HeldOutRows, compare_quality
from trainer.registry.store import Store
from trainer.registry.version_record import CheckResult, VersionRecord

MODELS = ("retrieval", "retrieval_exact")


def _build_models(servable: VectorServable, directory: Path, *_: Any) -> dict[str, dict[str, str]]:
    for name in MODELS:
        saved_model.save(
            servable, ExactIndex(servable.candidate_vectors), directory / name, name, {}
        )
    return {name: {"kind": "exact"} for name in MODELS}


@dataclass
class Publisher:
    """Publishes planted versions. Only verification, report and progress are faked."""

    store: Store
    rows: HeldOutRows
    recall: float = 0.96
    output: io.StringIO = field(default_factory=io.StringIO)

    def publication(self) -> Publication:
        return Publication(
            store=self.store,
            console=Console(file=self.output, width=200),
            build_models=_build_models,
            verify_models=lambda *_: {
                "retrieval": {"recall_at_100": self.recall, "queries": 10},
                "retrieval_exact": {"recall_at_100": 1.0, "queries": 10},
            },
            write_report=lambda directory, _metrics: directory.mkdir(),
            show_report=lambda *_: None,
        )

    def new(self, share: float, *, compared: bool = True) -> NewVersion:
        """Return a version that ranks this share of the test rows first."""
        return NewVersion(
            source="run",
            settings=config.Config(),
            servable=Planted(self.rows, share).servable(),
            metrics={"dataset": {"name": "planted", "items": ITEMS}},
            write_side_files=lambda directory: side_files.write(directory, self.rows.dataset),
            test_rows=self.rows if compared else None,
        )

    def publish(self, new: NewVersion, override: str | None = None) -> int:
        return self.publication().publish(new, override)

    def record(self, version: int) -> VersionRecord:
        return VersionRecord.read(self.store.directory(version))


@pytest.fixture
def publisher(store: Store) -> Publisher:
    return Publisher(store, held_out_rows())


@pytest.mark.usefixtures("fresh_processes")
def test_worse_version_is_kept_and_not_served(publisher: Publisher) -> None:
    assert publisher.publish(publisher.new(0.9)) == 1
    quality = publisher.record(1).checks["quality"]
    assert quality.text == "quality was not compared: no version was served before"
    with pytest.raises(GateFailed) as raised:
        publisher.publish(publisher.new(0.7))
    assert (publisher.store.current(), publisher.store.versions()) == (1, [1, 2])
    # Both versions answered through their exported models. The scores, evaluated directly, agree.
    values = publisher.record(2).checks["quality"].values
    parts = publisher.rows.parts
    for key, share in (
        ("serving_unseen_items_top_100", 0.9),
        ("unseen_items_top_100", 0.7),
    ):
        scores = Planted(publisher.rows, share).scores()
        expected = evaluation.evaluate(scores.__getitem__, parts.train, parts.test)
        assert values[key] == expected.unseen_items.top_100
    assert values["rows"] == len(parts.test)
    message = str(raised.value)
    assert f"{values['unseen_items_top_100']:.4f}, and version 1's" in message
    models_dir = publisher.store.models_dir
    assert f"python -m trainer promote 2 --models-dir {models_dir} --reason TEXT" in message
    assert "FAILED: unseen_items top-100 is" in publisher.output.getvalue()


def test_allowed_quality_loss_is_configured(publisher: Publisher) -> None:
    publisher.publish(publisher.new(0.9))
    lenient = config.load("default", ["gate.max_quality_loss=0.5"])
    assert publisher.publish(replace(publisher.new(0.7), settings=lenient)) == 2
    assert publisher.store.current() == 2


def test_override_serves_a_failed_version_and_records_the_reason(publisher: Publisher) -> None:
    publisher.publish(publisher.new(0.9))
    reason = "the old version recommends recalled products"
    assert publisher.publish(publisher.new(0.3), override=reason) == 2
    record = publisher.record(2)
    assert (record.gate, record.promotions[-1].reason) == ("overridden", reason)
    assert record.failures
    # Later versions are compared with the one that is served now.
    assert publisher.publish(publisher.new(0.4)) == 3
    assert publisher.record(3).checks["quality"].values["serving_version"] == 2


def test_version_with_low_recall_is_kept_and_not_served(publisher: Publisher) -> None:
    publisher.publish(publisher.new(1.0, compared=False))
    publisher.recall = 0.94
    with pytest.raises(GateFailed, match=r"index is 0\.9400; the target is 0\.95"):
        publisher.publish(publisher.new(1.0, compared=False))
    assert (publisher.store.current(), publisher.store.versions()) == (1, [1, 2])


def test_version_without_test_rows_is_not_compared(publisher: Publisher) -> None:
    publisher.publish(publisher.new(0.9))
    assert publisher.publish(publisher.new(0.1, compared=False)) == 2
    assert publisher.record(2).checks["quality"].text.endswith("there are no test rows")


def test_model_that_cannot_be_loaded_is_not_kept(publisher: Publisher) -> None:
    def truncate_variables(*arguments: Any) -> dict[str, dict[str, str]]:
        described = _build_models(*arguments)
        [data] = (arguments[1] / "retrieval" / "variables").glob("*.data*")
        data.write_bytes(data.read_bytes()[:1000])
        return described

    publication = replace(
        publisher.publication(),
        build_models=truncate_variables,
        verify_models=check_exported_models,
    )
    with pytest.raises(VerificationError, match=r"^not published: retrieval: cannot be loaded"):
        publication.publish(publisher.new(1.0))
    assert publisher.store.versions() == []
    assert not list(publisher.store.models_dir.glob(".staging*"))


def test_incomplete_version_is_not_kept(publisher: Publisher) -> None:
    def write_items_only(directory: Path) -> None:
        side_files.write_items(directory / "items.csv", [])

    new = replace(publisher.new(1.0), write_side_files=write_items_only)
    with pytest.raises(StoreError, match=r"has no seen\.sqlite"):
        publisher.publish(new)
    assert publisher.store.versions() == []


def test_comparison_is_repeated_if_another_version_is_promoted_meanwhile(
    publisher: Publisher,
) -> None:
    publisher.publish(publisher.new(0.5))
    compared_with: list[int] = []
    compare: Callable[..., CheckResult] = compare_quality

    def compare_slowly(new: Path, served: Path, *arguments: Any) -> CheckResult:
        compared_with.append(int(served.name))
        if len(compared_with) == 1:
            publisher.publish(publisher.new(0.9))
        return compare(new, served, *arguments)

    publication = replace(publisher.publication(), compare_quality=compare_slowly)
    with pytest.raises(GateFailed):
        publication.publish(publisher.new(0.6))
    assert compared_with == [1, 3]
    assert publisher.store.current() == 3
