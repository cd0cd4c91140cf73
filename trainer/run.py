"""One run, from rows to a published version."""

import importlib.metadata
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from serving_contract import REPORTS, RETRIEVAL, RETRIEVAL_EXACT
from trainer import baselines, config, evaluation, export, publish, report, towers, training, verify
from trainer.data import split
from trainer.data.types import Dataset, Split
from trainer.evaluation import Quality, Scorer
from trainer.index.base import Index
from trainer.index.exact import ExactIndex

_PACKAGES = ("tensorflow", "tf-keras", "tensorflow-recommenders", "scann", "numpy")
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
    quality = _evaluated(evaluation.dot_product_scorer(queries, vectors, known, popularity), parts)
    metrics: dict[str, Any] = {
        "dataset": _described(dataset, parts),
        "test": quality.as_dict(),
        "baselines": {
            "popularity": _evaluated(evaluation.popularity_scorer(popularity), parts).as_dict()
        },
        "train_seconds": trained.seconds,
        "train_interactions_per_second": trained.interactions_per_second,
        "config": config.as_dict(settings),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
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
            export.export(servable, index, directory / name, name, {"version": version, **metrics})
        console.print("Verifying the exported models in a fresh process")
        measured = verify.verify(directory, servable, known_ids)
        metrics["index"] = {name: measured[name] | parameters[name] for name in measured}
        report.write(directory / REPORTS, metrics)
        publish.publish(models_dir, version, directory, dataset)
    report.show(console, metrics)
    console.print(f"Published version {version} in {models_dir}")
    return version


def _evaluated(scorer: Scorer, parts: Split) -> Quality:
    return evaluation.evaluate(scorer, parts.train, parts.test)


def _described(dataset: Dataset, parts: Split) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "users": len(dataset.user_ids),
        "items": len(dataset.item_ids),
        "train": len(parts.train),
        "test": len(parts.test),
        "split": parts.name,
    }
