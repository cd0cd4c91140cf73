"""Represents interactions as a sparse matrix of zeros and ones."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from trainer.data.types import Interactions

_STRIPE_COLUMNS = 1024


def binary(rows: Interactions, users: int, items: int) -> sparse.csr_matrix:
    """Return float32 [users, items] that is 1 where a pair has one or more rows."""
    matrix = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (rows.users, rows.items)), shape=(users, items)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def gram(matrix: sparse.csr_matrix) -> NDArray[np.float32]:
    """Return how many users each pair of items shares: [users, items] -> [items, items].

    The result is computed in dense stripes, because the product as one sparse matrix would take
    more memory than a dense one.
    """
    items = matrix.shape[1]
    result = np.empty((items, items), np.float32)
    columns = matrix.tocsc()
    rows = columns.T.tocsr()
    for start in range(0, items, _STRIPE_COLUMNS):
        end = start + _STRIPE_COLUMNS
        result[:, start:end] = (rows @ columns[:, start:end]).toarray()
    return result
