"""A model of drawn vectors for benchmarks.service, published like a trained one.

    python -m benchmarks.service.model MODELS_DIR [--items 200000] [--users 20000] [--dims 32]

Items and users are clustered vectors of :mod:`vectors`, both drawn from the same clusters. The
index is tuned, built, verified and published by the trainer's own code: recall@100 of .95 at least.
seen.sqlite: user ``heavy-0`` to ``heavy-49`` have seen the 5,000 items that are nearest to them,
which is the hardest that an exclusion can be, ``heavy-50`` to ``heavy-99`` 5,000 from all over the
catalogue, every other user 100 of the nearest 200.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks import vectors
from benchmarks.service.catalogue import (
    DATASET,
    FIRST_SCATTERED,
    HEAVY_SEEN,
    HEAVY_USERS,
    ITEM_PREFIX,
    SEEN,
    SEEN_AMONG,
    drawn,
    item_ids,
    user_ids,
)
from serving_contract import ITEMS_CSV, SEEN_SQLITE
from trainer.artifact import side_files
from trainer.artifact.servable import Servable
from trainer.config import Config, as_dict
from trainer.data.histories import Histories
from trainer.model.towers.query import QueryWeights
from trainer.pipelines.publishing import publication
from trainer.registry.publication import NewVersion
from trainer.registry.store import Store
from trainer.report import metrics


def make(
    models_dir: Path, items: int, users: int, dims: int, console: Console, prefix: str = ITEM_PREFIX
) -> int:
    """Publish it; its version."""
    item_vectors, user_vectors = drawn(items, users, dims)
    ids = np.array(item_ids(items, prefix), object)
    servable = Servable(
        candidate_vectors=item_vectors,
        item_ids=ids,
        query=QueryWeights(
            base=np.zeros(dims, np.float32),
            item_vectors=None,
            item_log_weights=np.zeros(items, np.float32),
            age_log_weights=np.zeros(1, np.float32),
            exponent=0.5,
            history_length=0,
            user_vectors=user_vectors,
            normalize=False,
        ),
        user_ids=np.array(user_ids(users), object),
        histories=Histories(np.zeros(users + 1, np.int64), np.zeros(0, np.int32)),
        popularity=np.ones(items, np.float32),
    )
    store = Store(models_dir)
    store.prepare()

    def write_side_files(directory: Path) -> None:
        side_files.write_items(directory / ITEMS_CSV, zip(ids, ids, strict=True))
        nearest = vectors.neighbours(item_vectors, user_vectors[:FIRST_SCATTERED], HEAVY_SEEN)
        random = np.random.default_rng(0)
        seen = dict(enumerate(nearest))
        for number in range(FIRST_SCATTERED, HEAVY_USERS):
            seen[number] = random.choice(items, HEAVY_SEEN, replace=False)
        for start in range(HEAVY_USERS, users, 1000):
            block = vectors.neighbours(item_vectors, user_vectors[start : start + 1000], SEEN_AMONG)
            for number, row in enumerate(block, start):
                seen[number] = random.choice(row, SEEN, replace=False)
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
            "dataset": {"name": DATASET, "items": items, "dimensions": dims},
            "config": as_dict(settings),
            "versions": metrics.versions(),
        },
        write_side_files=write_side_files,
    )
    return publication(store, console).publish(new)


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models_dir", type=Path)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--dims", type=int, default=32)
    parser.add_argument("--item-prefix", default=ITEM_PREFIX, help="what the items' ids begin with")
    arguments = parser.parse_args()
    make(
        arguments.models_dir,
        arguments.items,
        arguments.users,
        arguments.dims,
        Console(),
        arguments.item_prefix,
    )


if __name__ == "__main__":
    main()
