"""iALS: matrix factorisation of what users did, unknown pairs counting as weak zeros."""

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
    """Dot products of factors that weighted alternating least squares finds.

    Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets"
    (ICDM 2008), as the library ``implicit`` has it.

    Args:
        rows: the training rows.
        users: number of users.
        items: number of items.
        seed: of the initial factors.
        factors: length of the vectors.
        regularization: weight of the penalty on their squares, as a share of alpha times
            the geometric mean of the rows per user and the rows per item: a bare weight
            that suits dense data makes every factor 0 on sparse data.
        alpha: weight of a pair that is there; one that is not has weight 1.
        iterations: how often both sides are solved for.

    Tried on validation rows (unseen_items.top_100): 64 factors and 15 iterations with
    alpha 3, 5, 7, 10, 20 and the best of regularization 0.1, 0.125, 0.15, 0.2 each: .605,
    .608, .607, .609 (alpha 10, 0.1), .589. 32 or 128 factors, 8 or 30 iterations: within
    .009 of 64 and 15.
    """
    matrix = binary(rows, users, items)
    rows_each = [matrix.nnz / max(1, np.count_nonzero(matrix.sum(axis=axis))) for axis in (0, 1)]
    # Only here: it is slow to import.
    from implicit.cpu.als import AlternatingLeastSquares

    # Its own threads work on users side by side; more inside each only wait for them.
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
    """Why the library cannot be loaded; empty where it can. It is linked against OpenMP."""
    try:
        import implicit.cpu.als  # noqa: F401
    except ImportError as error:
        return str(error)
    return ""
