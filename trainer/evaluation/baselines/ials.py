"""iALS: matrix factorization of implicit feedback; unobserved pairs count as weak zeros."""

import numpy as np
from threadpoolctl import threadpool_limits

from trainer.data.types import Interactions
from trainer.evaluation import Scorer
from trainer.evaluation.baselines.matrix import binary


def ials(
    rows: Interactions,
    users: int,
    items: int,
    *,
    seed: int,
    factors: int = 64,
    regularization: float = 0.1,
    alpha: float = 10.0,
    iterations: int = 15,
) -> Scorer:
    """Return a scorer for dot products of factors from weighted alternating least squares.

    Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets"
    (ICDM 2008), as implemented by the library ``implicit``.

    Args:
        rows: the training rows.
        users: number of users.
        items: number of items.
        seed: seed of the initial factors.
        factors: length of the vectors.
        regularization: weight of the penalty on their squares, as a share of alpha times
            the geometric mean of the rows per user and the rows per item. An absolute weight
            that suits dense data would make all factors 0 on sparse data.
        alpha: weight of an observed pair; an unobserved pair has weight 1.
        iterations: number of times that both sides are solved for.

    Tried on validation rows (unseen_items.top_100): 64 factors and 15 iterations with
    alpha 3, 5, 7, 10, 20 and the best of regularization 0.1, 0.125, 0.15, 0.2 each: .605,
    .608, .607, .609 (alpha 10, 0.1), .589. 32 or 128 factors, 8 or 30 iterations: within
    .009 of 64 and 15.
    """
    matrix = binary(rows, users, items)
    rows_each = [matrix.nnz / max(1, np.count_nonzero(matrix.sum(axis=axis))) for axis in (0, 1)]
    # Imported here because the import is slow.
    from implicit.cpu.als import AlternatingLeastSquares

    # The library has one thread per core already; threads within BLAS would only compete.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularization * alpha * float(np.sqrt(np.prod(rows_each))),
            alpha=alpha,
            iterations=iterations,
            random_state=seed,
        )
        model.fit(matrix, show_progress=False)
    query_vectors = np.asarray(model.user_factors)
    candidate_vectors = np.asarray(model.item_factors)
    return lambda batch: query_vectors[batch] @ candidate_vectors.T


def unavailable() -> str:
    """Return why the library, which needs OpenMP, cannot be loaded; "" if it can."""
    try:
        import implicit.cpu.als  # noqa: F401
    except ImportError as error:
        return str(error)
    return ""
