"""One run, from rows to a published version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from serving_contract import REPORTS, RETRIEVAL, RETRIEVAL_EXACT
from trainer import baselines, config, evaluation, export, publish, report, towers, training, verify
from trainer.data import split
from trainer.data.types import Dataset
from trainer.index.base import Index
from trainer.index.exact import ExactIndex
from trainer.report import metrics

_SAMPLE_USERS = 32


def run(
    dataset: Dataset,
    settings: config.Config,
    models_dir: Path,
    console: Console,
    log_dir: Path | None = None,
) -> int:
    """Train, evaluate, export, verify and publish; the number of the new version.

    Raises:
        DataError: the data cannot be split as the configuration asks.
        VerificationError: the export does not answer as it must; nothing is published.
    """
    # Only here: without ScaNN's wheel the rest of the trainer can still be imported.
    from trainer.index.scann import ScannIndex

    # Before anything slow: a directory that cannot be written should not cost a wait.
    models_dir.mkdir(parents=True, exist_ok=True)
    parts = split.split(
        dataset.interactions, settings.split.kind, settings.split.test_share, settings.seed
    )
    console.print(f"Training on {len(parts.train):,} interactions of {dataset.name}")
    trained = training.train(dataset, parts.train, settings, console, log_dir)
    vectors = towers.embed(trained.candidate_tower, dataset.item_ids)
    popularity = baselines.popularity(parts.train, len(dataset.item_ids))
    known = np.isin(np.arange(len(dataset.user_ids)), parts.train.users)
    queries = towers.embed(trained.query_tower, dataset.user_ids)
    ours = evaluation.dot_product_scorer(queries, vectors, known, popularity)
    others = baselines.choose(parts.train, len(known), len(vectors), settings.seed)
    console.print(f"Comparing with {', '.join(others.builders)}")
    compared = evaluation.compare(
        {report.OURS: lambda: ours, **others.builders}, parts.train, parts.test, len(vectors)
    )
    measures: dict[str, Any] = {
        "dataset": metrics.described(dataset, parts),
        **metrics.compared(compared, others.left_out),
        "train_seconds": trained.seconds,
        "train_interactions_per_second": trained.interactions_per_second,
        "config": config.as_dict(settings),
        "versions": metrics.versions(),
    }
    known_ids = dataset.user_ids[known]
    servable = export.Servable(
        trained.query_tower, vectors, dataset.item_ids, popularity, known_ids[:_SAMPLE_USERS]
    )
    kinds: dict[str, Callable[[], Index]] = {
        RETRIEVAL_EXACT: lambda: ExactIndex(vectors),
        RETRIEVAL: lambda: ScannIndex(vectors, settings.index),
    }
    with publish.staging(models_dir) as (version, directory):
        parameters = {}
        for name, build in kinds.items():
            index = build()
            parameters[name] = index.parameters()
            export.export(servable, index, directory / name, name, {"version": version, **measures})
        console.print("Verifying the exported models in a fresh process")
        measured = verify.verify(directory, servable, known_ids)
        measures |= {
            "version": version,
            "index": {name: measured[name] | parameters[name] for name in measured},
            "learning_curve": metrics.learning_curve(trained.losses),
            "similar_items": metrics.similar_items(
                vectors, popularity, dataset.item_ids, dataset.titles
            ),
        }
        report.write(directory / REPORTS, measures)
        publish.publish(models_dir, version, directory, dataset)
    report.show(console, measures)
    console.print(f"Published version {version} in {models_dir}")
    return version
