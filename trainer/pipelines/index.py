"""Publishes vectors that another program computed, so that Shortlist can serve any model."""

import resource
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from trainer.artifact import side_files
from trainer.artifact.servable import VectorServable
from trainer.config import Config, as_dict
from trainer.errors import DataError
from trainer.index import kinds, memory
from trainer.pipelines import build
from trainer.pipelines.build import publication
from trainer.registry.publication import NewVersion
from trainer.registry.store import Store
from trainer.report import metrics


def index(
    name: str,
    item_ids: NDArray[np.bytes_],
    embeddings: NDArray[np.float32],
    queries: NDArray[np.float32] | None,
    settings: Config,
    models_dir: Path,
    console: Console,
) -> int:
    """Publish an index of vectors as a new version, and return the version number.

    The exported models have only the signatures ``by_vector`` and ``by_item``.

    Args:
        name: the name of the data in reports.
        item_ids: UTF-8 [N], distinct.
        embeddings: float32 [N, D], in the order of the ids.
        queries: float32 [M, D], typical query vectors. Half of the queries tune the index, the
            others measure recall; fewer than 200 do both. None uses ``embeddings`` as queries.
        settings: the configuration, of which only the section ``index`` is used.
        models_dir: the directory to publish the version in.
        console: shows the progress.

    Raises:
        DataError: the numbers of ids, vectors or dimensions do not match.
        TrainerError: as in :meth:`trainer.registry.publication.Publication.publish`.
    """
    started = time.perf_counter()
    if len(item_ids) != len(embeddings):
        raise DataError(f"there are {len(item_ids):,} ids for {len(embeddings):,} vectors")
    dimensions = embeddings.shape[1]
    if queries is not None and queries.shape[1] != dimensions:
        raise DataError(
            f"queries have {queries.shape[1]} dimensions, but vectors have {dimensions}"
        )
    store = Store(models_dir)
    store.prepare()
    console.print(f"{len(item_ids):,} vectors of {dimensions} dimensions")
    tuning_queries, verification_queries = build.split_queries(queries)
    new = NewVersion(
        source="index",
        settings=settings,
        servable=VectorServable(item_ids=item_ids, candidate_vectors=embeddings),
        metrics={
            "dataset": {"name": name, "items": len(item_ids), "dimensions": dimensions},
            "config": as_dict(settings),
            "versions": metrics.versions(),
        },
        write_side_files=lambda directory: side_files.write_ids(directory, item_ids),
        tuning_queries=tuning_queries,
        verification_queries=verification_queries,
    )
    version = publication(store, console).publish(new)
    builder = kinds.builder(settings.index)
    serving_gib = memory.bytes_to_serve(builder, *embeddings.shape) / 2**30
    console.print(
        f"Took {time.perf_counter() - started:,.0f} s. Memory use peaked at "
        f"{_peak_gib(resource.RUSAGE_SELF):.1f} GiB here and at "
        f"{_peak_gib(resource.RUSAGE_CHILDREN):.1f} GiB in the verification. A model server needs "
        f"about {serving_gib:.1f} GiB for this version",
        soft_wrap=True,
    )
    return version


def _peak_gib(who: int) -> float:
    """Return the peak memory of this process or of its largest child process in GiB."""
    return resource.getrusage(who).ru_maxrss / 2**20
