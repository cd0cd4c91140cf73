"""Which items of a servable its models can return, and a servable with only some of its items."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trainer.artifact.servable import Servable
from trainer.data.histories import Histories


def retrievable_items(servable: Servable) -> NDArray[np.bool_]:
    """Return a mask, bool [N], of the items that have a candidate vector other than zero.

    An item without training interactions and without a feature that occurred in training has a
    zero vector. Its score of 0 would rank it above all items with negative scores, so it must be
    left out of the models.
    """
    return np.asarray(servable.candidate_vectors.any(axis=1))


def left_out_notice(retrievable: NDArray[np.bool_]) -> str | None:
    """Return a message about the items outside the mask, or None if there are none."""
    count = int(np.count_nonzero(~retrievable))
    if not count:
        return None
    return (
        f"Left out of the models: {count:,} {'item' if count == 1 else 'items'} without training "
        f"rows and without features that the model knows"
    )


def keep_items(servable: Servable, kept: NDArray[np.bool_]) -> Servable:
    """Return the servable without the items outside the mask ``kept``, bool [N].

    The items are removed from histories, too. A user whose history becomes empty is removed, unless
    the model has a vector for the user.
    """
    if kept.all():
        return servable
    remaining = servable.histories.keep(kept[servable.histories.items])
    new_row = (np.cumsum(kept) - 1).astype(np.int32)
    histories = Histories(remaining.offsets, new_row[remaining.items], remaining.ratings)
    query = servable.query
    if query.item_vectors is not None:
        query = replace(
            query,
            item_vectors=query.item_vectors[kept],
            item_log_weights=query.item_log_weights[kept],
        )
    users = np.arange(len(servable.user_ids))
    if query.user_vectors is None:
        users = np.flatnonzero((histories.lengths > 0) | (servable.histories.lengths == 0))
    return replace(
        servable,
        query=query,
        user_ids=servable.user_ids[users],
        histories=histories.take(users),
        candidate_vectors=servable.candidate_vectors[kept],
        item_ids=servable.item_ids[kept],
        popularity=servable.popularity[kept],
        item_queries=None if servable.item_queries is None else servable.item_queries[kept],
    )
