"""Models that a trained one must beat."""

import numpy as np
from numpy.typing import NDArray

from trainer.data.types import Interactions


def popularity(rows: Interactions, items: int) -> NDArray[np.float32]:
    """The number of interactions of every item, float32 [items]: the same for every user."""
    return np.bincount(rows.items, minlength=items).astype(np.float32)
