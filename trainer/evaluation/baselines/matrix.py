"""Interactions as a matrix of zeros and ones."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from trainer.data.types import Interactions

_COLUMNS_AT_ONCE = 1024


def binary(rows: Interactions, users: int, items: int) -> sparse.csr_matrix:
    """float32 [users, items], 1 where there is a row, however many there are."""
    matrix = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (rows.users, rows.items)), shape=(users, items)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def gram(matrix: sparse.csr_matrix) -> NDArray[np.float32]:
    """How many users each pair of items has in common: [users, items] -> [items, items].

    A stripe at a time: the whole product as a sparse matrix would be larger than dense.
    """
    items = matrix.shape[1]
    result = np.empty((items, items), np.float32)
    columns = matrix.tocsc()
    rows = columns.T.tocsr()
    for start in range(0, items, _COLUMNS_AT_ONCE):
        end = start + _COLUMNS_AT_ONCE
        result[:, start:end] = (rows @ columns[:, start:end]).toarray()
    return result
