"""One run, from rows to a published version."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from serving_contract import TOWERS
from trainer import config, evaluation, report
from trainer.artifact import side_files as companions
from trainer.artifact import stored_towers
from trainer.artifact.retrievable import keep_items, left_out_notice, retrievable_items
from trainer.artifact.servable import Servable
from trainer.artifact.stored_towers import StoredTowers
from trainer.data import split
from trainer.data.types import Dataset, Split
from trainer.evaluation import baselines
from trainer.model import item_to_item, training
from trainer.model.training import TrainedModel
from trainer.pipelines import build
from trainer.registry import publication as publishing
from trainer.registry.quality_gate import TestRows
from trainer.registry.store import Store
from trainer.report import metrics


def run(
    dataset: Dataset,
    settings: config.Config,
    models_dir: Path,
    console: Console,
    log_dir: Path | None = None,
    override_gate: str | None = None,
) -> int:
    """Train, evaluate, export, verify and publish; the number of the new version.

    Args:
        dataset: what to learn from.
        settings: of everything.
        models_dir: where to publish.
        console: for what goes on.
        log_dir: for TensorBoard's logs.
        override_gate: why the version is to be published even if it falls short.

    Raises:
        DataError: the data cannot be split as the configuration asks.
        IndexTuningError: no index finds as much as it is to.
        StoreError: the version cannot be put into ``models_dir``.
        VerificationError: the export does not answer as it must; nothing is published.
        Refused: it falls short of the gate; it is kept, and not published.
    """
    # Before anything slow: a directory that cannot be written should not cost a wait.
    store = Store(models_dir)
    store.prepare()
    parts = split.split(
        dataset.interactions, settings.split.kind, settings.split.test_share, settings.seed
    )
    console.print(f"Training on {len(parts.train):,} interactions of {dataset.name}")
    trained = training.train(dataset, parts.train, settings, console, log_dir)
    servable = _servable(dataset, parts, trained, settings, console)
    measures = _measured(dataset, parts, trained, servable, settings, console)
    shown = retrievable_items(servable)
    if notice := left_out_notice(shown):
        console.print(notice, soft_wrap=True)
    served = keep_items(servable, shown)
    with store.staging() as staged:
        manifest = {"version": staged.version, **measures}
        indexes = build.build(served, staged.directory, settings.index, manifest, console.print)
        companions.write(staged.directory, dataset)
        stored_towers.save(
            staged.directory / TOWERS,
            StoredTowers(servable, dataset.titles, trained.items, trained.config),
        )
        outcome = publishing.publish(
            store,
            staged,
            served,
            measures | {"index": indexes},
            settings,
            console,
            source="run",
            rows=TestRows(dataset, parts),
            override=override_gate,
        )
    publishing.conclude(outcome, models_dir, console)
    return staged.version


def _servable(
    dataset: Dataset,
    parts: Split,
    trained: TrainedModel,
    settings: config.Config,
    console: Console,
) -> Servable:
    """What is exported: the towers, the known users and their histories."""
    known = np.flatnonzero(trained.known_users)
    item_queries = None
    if settings.item_to_item.trained:
        console.print("Training similar items on what users did next")
        item_queries = item_to_item.train(
            trained.histories,
            trained.candidate_vectors,
            settings.item_to_item,
            seed=settings.seed,
            console=console,
        )
    return Servable(
        query=trained.query.of_users(known),
        user_ids=dataset.user_ids[known],
        # Nothing that is served asks how much anything was liked.
        histories=replace(trained.histories.take(known), ratings=None),
        candidate_vectors=trained.candidate_vectors,
        item_ids=dataset.item_ids,
        popularity=baselines.popularity(parts.train, len(dataset.item_ids)),
        item_queries=item_queries,
    )


def _measured(
    dataset: Dataset,
    parts: Split,
    trained: TrainedModel,
    servable: Servable,
    settings: config.Config,
    console: Console,
) -> dict[str, Any]:
    """metrics.json, but for what only the export can tell."""
    vectors = servable.candidate_vectors
    ours = trained.scorer(servable.popularity)
    others = baselines.choose(parts.train, len(dataset.user_ids), len(vectors), settings.seed)
    console.print(f"Comparing with {', '.join(others.builders)}")
    compared = evaluation.compare(
        {report.OURS: lambda: ours, **others.builders}, parts.train, parts.test, len(vectors)
    )
    return {
        "dataset": metrics.described(dataset, parts),
        **metrics.compared(compared, others.left_out),
        "item_to_item": metrics.item_to_item(vectors, servable.item_queries, parts),
        "learning_curve": metrics.learning_curve(trained.curve),
        "similar_items": metrics.similar_items(
            servable.item_queries, vectors, servable.popularity, dataset.item_ids, dataset.titles
        ),
        "train_seconds": trained.seconds,
        "train_interactions_per_second": trained.interactions_per_second,
        "config": config.as_dict(trained.config),
        "versions": metrics.versions(),
    }
