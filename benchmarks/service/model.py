"""Publishes a model with random vectors, as if it had been trained.

`benchmarks.vectors` draws the item and user vectors from the same clusters. The trainer's own code
tunes, builds, verifies and publishes the index, with a recall@100 of at least .95. In seen.sqlite,
the users ``heavy-0`` to ``heavy-49`` have seen the 5,000 items nearest to them, which is the
hardest case for exclusions. ``heavy-50`` to ``heavy-99`` have seen 5,000 random items. Every other
user has seen 100 of the nearest 200 items.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import vectors
from benchmarks.service.catalogue import (
    DATASET,
    DIMS,
    FIRST_SCATTERED,
    HEAVY_SEEN,
    HEAVY_USERS,
    SEEN,
    SEEN_AMONG,
    draw_vectors,
    item_ids,
    user_ids,
)
from serving_contract import ITEMS_CSV, SEEN_SQLITE
from trainer.artifact import side_files
from trainer.artifact.servable import Servable
from trainer.config import Config, as_dict
from trainer.data.histories import Histories
from trainer.model.towers.query import QueryWeights
from trainer.pipelines.build import publication
from trainer.registry.publication import NewVersion
from trainer.registry.store import Store
from trainer.report import metrics


def publish(models_dir: Path, items: int, users: int, item_prefix: str) -> None:
    """Publish a model whose item ids begin with ``item_prefix``."""
    item_vectors, user_vectors = draw_vectors(items, users)
    ids = np.array(item_ids(items, item_prefix), object)
    servable = _servable(ids, user_ids(users), item_vectors, user_vectors)
    store = Store(models_dir)
    store.prepare()

    def write_side_files(directory: Path) -> None:
        side_files.write_items(directory / ITEMS_CSV, zip(ids, ids, strict=True))
        seen = _seen_items(item_vectors, user_vectors)
        side_files.write_seen(
            directory / SEEN_SQLITE,
            (
                (servable.user_ids[number], ids[item])
                for number, row in seen.items()
                for item in row
            ),
        )

    settings = Config()
    new = NewVersion(
        source="benchmark",
        settings=settings,
        servable=servable,
        metrics={
            "dataset": {"name": DATASET, "items": items, "dimensions": DIMS},
            "config": as_dict(settings),
            "versions": metrics.versions(),
        },
        write_side_files=write_side_files,
    )
    publication(store, Console()).publish(new)


def _servable(
    ids: NDArray[np.object_], users: list[str], items: vectors.Vectors, queries: vectors.Vectors
) -> Servable:
    """Return a model whose query tower only looks up the user's vector."""
    return Servable(
        candidate_vectors=items,
        item_ids=ids,
        query=QueryWeights(
            base=np.zeros(items.shape[1], np.float32),
            item_vectors=None,
            item_log_weights=np.zeros(len(items), np.float32),
            age_log_weights=np.zeros(1, np.float32),
            exponent=0.5,
            history_length=0,
            user_vectors=queries,
            normalize=False,
        ),
        user_ids=np.array(users, object),
        histories=Histories(np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32)),
        popularity=np.ones(len(items), np.float32),
    )


def _seen_items(items: vectors.Vectors, users: vectors.Vectors) -> dict[int, NDArray[np.int64]]:
    """Draw the items that each user has seen; return the rows of the items by user number."""
    random = np.random.default_rng(0)
    seen = dict(enumerate(vectors.neighbours(items, users[:FIRST_SCATTERED], HEAVY_SEEN)))
    for number in range(FIRST_SCATTERED, HEAVY_USERS):
        seen[number] = random.choice(len(items), HEAVY_SEEN, replace=False)
    for start in range(HEAVY_USERS, len(users), 1000):
        nearest = vectors.neighbours(items, users[start : start + 1000], SEEN_AMONG)
        for number, row in enumerate(nearest, start):
            seen[number] = random.choice(row, SEEN, replace=False)
    return seen
