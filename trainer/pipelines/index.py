"""Publishes vectors that were made elsewhere, so that any model can be served."""

import resource
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from trainer.artifact import side_files as companions
from trainer.artifact.servable import VectorServable
from trainer.config import Config, as_dict
from trainer.data.types import DataError
from trainer.index import kinds, memory
from trainer.pipelines import build
from trainer.registry import publication as publishing
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
    """Tune, build, export, verify and publish an index; the number of the new version.

    Its models have the signatures ``by_vector`` and ``by_item`` only.

    Args:
        name: what it is called in reports.
        item_ids: UTF-8 [N], distinct.
        embeddings: float32 [N, D], in the order of the ids.
        queries: float32 [M, D], like those to come; half of them tune the index and half judge it,
            or all do both where there are under 200.
            Without them the items' own vectors do.
        settings: ``index``; there is nothing else to set.
        models_dir: where to publish.
        console: for what goes on.

    Raises:
        DataError: the sizes do not agree.
        IndexTuningError: no index finds as much as it is to.
        StoreError: the version cannot be put into ``models_dir``.
        VerificationError: the export does not answer as it must; nothing is published.
        Refused: it falls short of the gate; it is kept, and not published.
    """
    started = time.perf_counter()
    if len(item_ids) != len(embeddings):
        raise DataError(f"{len(item_ids):,} ids for {len(embeddings):,} vectors")
    if queries is not None and queries.shape[1] != embeddings.shape[1]:
        raise DataError(
            f"queries have {queries.shape[1]} dimensions, vectors {embeddings.shape[1]}"
        )
    store = Store(models_dir)
    store.prepare()
    to_tune, to_judge = build.split_queries(queries)
    servable = VectorServable(item_ids=item_ids, candidate_vectors=embeddings)
    console.print(f"{len(item_ids):,} vectors of {embeddings.shape[1]} dimensions")
    measures = {
        "dataset": {"name": name, "items": len(item_ids), "dimensions": embeddings.shape[1]},
        "config": as_dict(settings),
        "versions": metrics.versions(),
    }
    with store.staging() as staged:
        manifest = {"version": staged.version, **measures}
        indexes = build.build(
            servable, staged.directory, settings.index, manifest, console.print, to_tune
        )
        companions.write_ids(staged.directory, item_ids)
        outcome = publishing.publish(
            store,
            staged,
            servable,
            measures | {"index": indexes},
            settings,
            console,
            source="index",
            rows=None,
            queries=to_judge,
        )
    publishing.conclude(outcome, models_dir, console)
    builder = kinds.builder(settings.index)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    console.print(
        f"In {time.perf_counter() - started:,.0f} s, with {peak:.1f} GiB of memory at the most, "
        f"{children:.1f} GiB to verify. A model server needs some "
        f"{memory.bytes_to_serve(builder, *embeddings.shape) / 2**30:.1f} GiB for it",
        soft_wrap=True,
    )
    return staged.version
