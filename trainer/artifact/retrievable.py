"""Which items a version answers with: a servable with some of its items only."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trainer.artifact.export import Servable
from trainer.data.histories import Histories


def retrievable(servable: Servable) -> NDArray[np.bool_]:
    """The items of which anything is known: bool [N].

    Without training rows and without features that had some, an item's vector is zero. It would
    stand above every item that is unlike the query, for no reason.
    """
    return np.asarray(servable.candidate_vectors.any(axis=1))


def left_out(shown: NDArray[np.bool_]) -> str | None:
    """What to say of the items where ``shown``, as of :func:`retrievable`, is false."""
    count = int(np.count_nonzero(~shown))
    if not count:
        return None
    return (
        f"Left out of the models: {count:,} {'item' if count == 1 else 'items'} without training "
        f"rows and without features that the model knows"
    )


def keep(servable: Servable, kept: NDArray[np.bool_]) -> Servable:
    """Without the items where ``kept``, bool [N], is false: they are gone from histories too.

    Users of whom nothing is known but such items become unknown users.
    """
    if kept.all():
        return servable
    left = servable.histories.keep(kept[servable.histories.items])
    place = (np.cumsum(kept) - 1).astype(np.int32)
    histories = Histories(left.offsets, place[left.items], left.ratings)
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
