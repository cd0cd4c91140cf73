"""Trains a model on interactions and publishes the model as a new version."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from serving_contract import TOWERS
from trainer import config, evaluation, report
from trainer.artifact import side_files, stored_towers
from trainer.artifact.servable import Servable, keep_items, left_out_notice, retrievable_items
from trainer.artifact.stored_towers import StoredTowers
from trainer.data import split
from trainer.data.types import Dataset, Split
from trainer.evaluation import baselines
from trainer.model import item_to_item, training
from trainer.model.training import TrainedModel
from trainer.pipelines.build import publication
from trainer.registry.publication import NewVersion
from trainer.registry.quality_gate import HeldOutRows
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
    """Train, evaluate and publish a model, and return the version number.

    Args:
        dataset: the data set to train on.
        settings: the configuration.
        models_dir: the directory to publish the version in.
        console: shows the progress.
        log_dir: the directory for TensorBoard logs; None writes no logs.
        override_gate: the reason to serve the version even if the quality gate fails; None respects
            the gate.

    Raises:
        DataError: the data cannot be split as configured.
        TrainerError: as in :meth:`trainer.registry.publication.Publication.publish`.
    """
    # Prepare the directory first, so that an unusable directory is reported before training.
    store = Store(models_dir)
    store.prepare()
    parts = split.split(
        dataset.interactions, settings.split.kind, settings.split.test_share, settings.seed
    )
    console.print(f"Training on {len(parts.train):,} interactions of {dataset.name}")
    trained = training.train(dataset, parts.train, settings, console, log_dir)
    servable = _servable(dataset, parts, trained, settings, console)
    measurements = _metrics(dataset, parts, trained, servable, settings, console)
    retrievable = retrievable_items(servable)
    if notice := left_out_notice(retrievable):
        console.print(notice, soft_wrap=True)

    def write_side_files(directory: Path) -> None:
        side_files.write(directory, dataset)
        towers = StoredTowers(servable, dataset.titles, trained.items, trained.config)
        stored_towers.save(directory / TOWERS, towers)

    new = NewVersion(
        source="run",
        settings=settings,
        servable=keep_items(servable, retrievable),
        metrics=measurements,
        write_side_files=write_side_files,
        test_rows=HeldOutRows(dataset, parts),
    )
    return publication(store, console).publish(new, override=override_gate)


def _servable(
    dataset: Dataset, parts: Split, trained: TrainedModel, settings: config.Config, console: Console
) -> Servable:
    """Return the data to export; train item-to-item queries if the configuration enables them."""
    known_users = np.flatnonzero(trained.known_users)
    item_queries = None
    if settings.item_to_item.trained:
        console.print("Training item-to-item queries on the next interactions of users")
        item_queries = item_to_item.train(
            trained.histories,
            trained.candidate_vectors,
            settings.item_to_item,
            seed=settings.seed,
            console=console,
        )
    return Servable(
        query=trained.query.of_users(known_users),
        user_ids=dataset.user_ids[known_users],
        # Ratings are used only for training.
        histories=replace(trained.histories.take(known_users), ratings=None),
        candidate_vectors=trained.candidate_vectors,
        item_ids=dataset.item_ids,
        popularity=baselines.popularity(parts.train, len(dataset.item_ids)),
        item_queries=item_queries,
    )


def _metrics(
    dataset: Dataset,
    parts: Split,
    trained: TrainedModel,
    servable: Servable,
    settings: config.Config,
    console: Console,
) -> dict[str, Any]:
    """Evaluate the model and the baselines, and return all metrics except the index metrics."""
    vectors = servable.candidate_vectors
    scorer = trained.scorer(servable.popularity)
    chosen = baselines.choose(parts.train, len(dataset.user_ids), len(vectors), settings.seed)
    console.print(f"Comparing with {', '.join(chosen.builders)}")
    compared = evaluation.compare(
        {report.OURS: lambda: scorer, **chosen.builders}, parts.train, parts.test, len(vectors)
    )
    return {
        "dataset": metrics.dataset(dataset, parts),
        **metrics.comparison(compared, chosen.left_out),
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
