import gc

import numpy as np
import psutil

from tests.trainer.index.clustered import clustered
from trainer.index.scann.searcher import Depth, Design, Searcher


def test_results_that_are_not_found_are_minus_one_at_the_end() -> None:
    vectors = clustered(20_000, 1)
    searcher = Searcher(vectors, Design("partitions", 200, 2, 0.2))
    rows = searcher.search(vectors[:3], Depth(5_000, 1, 5_000))
    assert (rows == -1).any()
    assert (np.diff((rows == -1).astype(int), axis=1) >= 0).all()


def test_memory_is_freed_with_the_searcher() -> None:
    vectors = clustered(200_000, 1)
    process = psutil.Process()
    rss = []
    for _ in range(6):
        Searcher(vectors, Design("brute_force"))
        gc.collect()
        rss.append(process.memory_info().rss)
    assert rss[-1] - rss[1] < 2 * vectors.nbytes
