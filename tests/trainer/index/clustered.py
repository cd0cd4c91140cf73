"""Vectors that an approximate index can search well."""

import numpy as np

DIM = 16


def clustered(count: int, seed: int) -> np.ndarray:
    """Return unit vectors around 300 centres that are the same for every seed."""
    centres = np.random.default_rng(0).normal(size=(300, DIM))
    random = np.random.default_rng(seed)
    points = centres[random.integers(300, size=count)] + 0.7 * random.normal(size=(count, DIM))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32)
