"""Baselines: simple models that a trained model should beat.

Their default hyperparameters were chosen on MovieLens 100K. A tenth of the training rows of the
random split with seed 42 was held out for validation, three times (random, seeds 1, 2 and 3), and
the values with the highest mean unseen_items.top_100 were taken. The docstring of each baseline
lists the values that were tried.

Every baseline except popularity learns from the matrix that :func:`interaction_matrix` returns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from trainer.data.types import Interactions
from trainer.evaluation import Scorer, popularity_scorer

# Item-kNN and EASE store a number for every pair of items, about 2 GB at this limit.
_MAX_PAIRWISE_ITEMS = 20_000
# With more training rows than this, iALS is too slow for an evaluation.
_MAX_IALS_ROWS = 5_000_000
_STRIPE_COLUMNS = 1024


@dataclass(frozen=True)
class Baselines:
    """The baselines to compare a model with.

    Attributes:
        builders: maps the name of each baseline to a function that builds its scorer.
        left_out: maps the name of each baseline that is left out to the reason.
    """

    builders: dict[str, Callable[[], Scorer]]
    left_out: dict[str, str]


def choose(train: Interactions, users: int, items: int, seed: int) -> Baselines:
    """Return all baselines that are feasible for a data set of this size.

    Args:
        train: the training rows.
        users: the number of users.
        items: the number of items.
        seed: the seed of iALS; the other baselines are deterministic.
    """

    def matrix() -> sparse.csr_matrix:
        return interaction_matrix(train, users, items)

    builders: dict[str, Callable[[], Scorer]] = {
        "popularity": lambda: popularity_scorer(popularity(train, items)),
        "item-kNN": lambda: item_knn(matrix()),
        "EASE": lambda: ease(matrix()),
        "iALS": lambda: ials(matrix(), seed=seed),
    }
    left_out: dict[str, str] = {}
    if items > _MAX_PAIRWISE_ITEMS:
        reason = f"left out above {_MAX_PAIRWISE_ITEMS:,} items, because it compares all pairs"
        left_out |= {"item-kNN": reason, "EASE": reason}
    if len(train) > _MAX_IALS_ROWS:
        left_out["iALS"] = f"left out above {_MAX_IALS_ROWS:,} training rows, because it is slow"
    elif reason := _ials_unavailable():
        left_out["iALS"] = f"left out, because its library cannot be loaded: {reason}"
    return Baselines(
        {name: build for name, build in builders.items() if name not in left_out}, left_out
    )


def popularity(rows: Interactions, items: int) -> NDArray[np.float32]:
    """Return the number of interactions of every item, float32 [items]."""
    return np.bincount(rows.items, minlength=items).astype(np.float32)


def interaction_matrix(rows: Interactions, users: int, items: int) -> sparse.csr_matrix:
    """Return float32 [users, items], which is 1 where a user has one or more rows with an item."""
    matrix = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (rows.users, rows.items)), shape=(users, items)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def item_knn(matrix: sparse.csr_matrix, *, neighbours: int = 50) -> Scorer:
    """Return a scorer that sums the cosines between an item and the items of a user.

    The cosine of items i and j is |users of both| / sqrt(|users of i| |users of j|)
    (Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001).
    Every pair of items takes 4 bytes of memory.

    Args:
        matrix: the training interactions, [users, items].
        neighbours: the number of most similar items that count for each item. Items tied with the
            last of these count as well. 0 counts all items.

    With 20, 30, 50, 70, 100 and all neighbours, unseen_items.top_100 on the validation rows was
    .505, .516, .525, .519, .508 and .493.
    """
    similarity = _gram(matrix)
    norms = np.sqrt(np.maximum(similarity.diagonal(), 1))
    similarity /= norms[:, None]
    similarity /= norms
    np.fill_diagonal(similarity, 0)
    if 0 < neighbours < len(similarity):
        thresholds = np.partition(similarity, -neighbours, axis=1)[:, -neighbours]
        similarity[similarity < thresholds[:, None]] = 0
    return lambda batch: matrix[batch] @ similarity


def ease(matrix: sparse.csr_matrix, *, l2: float = 400.0) -> Scorer:
    """Return a scorer that computes scores as X B, where X is the interaction matrix.

    B minimises |X - X B|^2 + l2 |B|^2 and has a zero diagonal. With P = (X'X + l2 I)^-1, its other
    elements are B_ij = -P_ij / P_jj (Steck, "Embarrassingly shallow autoencoders for sparse data",
    WWW 2019). Every pair of items takes about 6 bytes of memory.

    Args:
        matrix: the training interactions, [users, items].
        l2: the weight of the penalty on the squares of B.

    With l2 of 200, 300, 400, 500, 700 and 1000, unseen_items.top_100 on the validation rows was
    .587, .592, .592, .592, .588 and .582.
    """
    weights = _gram(matrix)
    diagonal = np.diag_indices_from(weights)
    weights[diagonal] += l2
    # A Cholesky decomposition takes a third of the time of a general inverse. The matrix is
    # symmetric; it is transposed because LAPACK works in place only on column-major arrays.
    weights = scipy.linalg.inv(weights.T, assume_a="pos", overwrite_a=True).T
    weights /= -weights[diagonal]
    weights[diagonal] = 0
    return lambda batch: matrix[batch] @ weights


def ials(
    matrix: sparse.csr_matrix,
    *,
    seed: int,
    factors: int = 64,
    regularization: float = 0.1,
    alpha: float = 10.0,
    iterations: int = 15,
) -> Scorer:
    """Return a scorer that multiplies factors learnt by weighted alternating least squares.

    Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets"
    (ICDM 2008), as implemented by the library ``implicit``.

    Args:
        matrix: the training interactions, [users, items].
        seed: the seed of the initial factors.
        factors: the number of factors of each user and item.
        regularization: the weight of the penalty on the squares of the factors, as a share of alpha
            times the geometric mean of the rows per user and the rows per item. An absolute weight
            that suits dense data would make all factors 0 on sparse data.
        alpha: the weight of an observed pair; an unobserved pair has weight 1.
        iterations: the number of times that the factors of users and items are computed in turn.

    With 64 factors, 15 iterations, alpha 3, 5, 7, 10 and 20, and for each alpha the best
    regularization of 0.1, 0.125, 0.15 and 0.2, unseen_items.top_100 on the validation rows was
    .605, .608, .607, .609 (with regularization 0.1) and .589. With 32 or 128 factors, or 8 or 30
    iterations, it was within .009 of these values.
    """
    mean_rows = [matrix.nnz / max(1, np.count_nonzero(matrix.sum(axis=axis))) for axis in (0, 1)]
    # Imported here because the import is slow.
    from implicit.cpu.als import AlternatingLeastSquares

    # The library already runs one thread per core; BLAS threads would only compete with them.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularization * alpha * float(np.sqrt(np.prod(mean_rows))),
            alpha=alpha,
            iterations=iterations,
            random_state=seed,
        )
        model.fit(matrix, show_progress=False)
    query_vectors = np.asarray(model.user_factors)
    candidate_vectors = np.asarray(model.item_factors)
    return lambda batch: query_vectors[batch] @ candidate_vectors.T


def _ials_unavailable() -> str:
    """Return the error if the library ``implicit``, which needs OpenMP, cannot be loaded, or ""."""
    try:
        import implicit.cpu.als  # noqa: F401
    except ImportError as error:
        return str(error)
    return ""


def _gram(matrix: sparse.csr_matrix) -> NDArray[np.float32]:
    """Return the number of users that each pair of items shares: [users, items] -> [items, items].

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
