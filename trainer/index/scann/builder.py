"""Builds the ScaNN index."""

import numpy as np
from numpy.typing import NDArray

from trainer.config import ScannConfig
from trainer.index.base import IndexBuilder, Notify, Queries
from trainer.index.scann.index import ScannIndex
from trainer.index.scann.tuner import Tuner

# Copies of the vectors at the peak of building: the given one, the searcher's, the tensors that the
# searcher is serialized into, the variables that are saved, and those made by saving.
_COPIES_TO_BUILD = 6.5
# The variable, and the copy of the searcher.
_COPIES_TO_SERVE = 2


class ScannBuilder(IndexBuilder):
    """Builds the fastest ScaNN index that reaches the recall target on this machine."""

    def __init__(self, kind: str, config: ScannConfig) -> None:
        """Take the settings.

        Args:
            kind: kind of searcher; "auto" tries those that suit the number of items.
            config: settings; those that are 0 are tuned.
        """
        self._kind, self._config = kind, config

    def build(
        self, vectors: NDArray[np.float32], queries: Queries, target_recall: float, notify: Notify
    ) -> ScannIndex:
        """See :meth:`IndexBuilder.build`."""
        notify(f"Searching for the fastest index that finds {target_recall:.0%}")
        tuner = Tuner(vectors, queries, self._kind, self._config, target_recall, notify)
        return ScannIndex(vectors, tuner.tune())

    def bytes_to_build(self, items: int, dim: int) -> int:
        """See :meth:`IndexBuilder.bytes_to_build`."""
        return round(_COPIES_TO_BUILD * 4 * items * dim)

    def bytes_to_serve(self, items: int, dim: int) -> int:
        """See :meth:`IndexBuilder.bytes_to_serve`."""
        # Hash codes have 4 bits for each block of two dimensions.
        return items * (_COPIES_TO_SERVE * 4 * dim + dim // 4)
