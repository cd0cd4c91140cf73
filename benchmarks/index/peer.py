"""The interface of the indexes that are compared."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Setting = dict[str, float]
Rows = NDArray[np.int64]
CORES = os.cpu_count() or 1


class Peer(ABC):
    """One index, with one choice of what is fixed when it is built.

    Attributes:
        needs: the module that it cannot run without.
    """

    needs = "numpy"

    def ladders(self, size: int) -> list[list[Setting]]:  # noqa: ARG002
        """Return lists of search settings to try, each from the fastest to the most exact."""
        return [[{}]]

    def build(self, data: Path, index: Path) -> None:  # noqa: B027
        """Build the index of the vectors in ``data``, in the empty directory ``index``."""

    @abstractmethod
    def load(self, data: Path, index: Path) -> None:
        """Load the index."""

    def use(self, setting: Setting, threads: int) -> None:  # noqa: B027
        """Use a setting from now on; called in every thread that searches."""

    @abstractmethod
    def search(self, queries: NDArray[np.float32]) -> Any:
        """Search for float32 [B, D]; return the library's own answer. This is what is timed."""

    @abstractmethod
    def rows(self, answer: Any) -> Rows:
        """Return the rows int64 [B, K] of an answer."""
