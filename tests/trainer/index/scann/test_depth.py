import pytest
import tensorflow as tf

from trainer.index.scann.index import DepthTable
from trainer.index.scann.searcher import Depth


@pytest.mark.parametrize(
    ("k", "leaves_searched", "rescored"),
    [
        (1, 2, 20),  # The first three are tuned.
        (10, 5, 60),
        (100, 30, 300),
        (55, 18, 180),  # Halfway between 10 and 100.
        (7, 4, 47),  # Rounded up.
        (101, 60, 600),  # Beyond the largest tuned k, depth grows in steps of that k ...
        (250, 70, 900),  # ... up to the number of leaves
        (2_000, 70, 5_000),  # ... and of items.
        (5_000, 70, 5_000),
    ],
)
def test_depth_is_interpolated_between_tuned_ks(
    k: int, leaves_searched: int, rescored: int
) -> None:
    tuned = [Depth(1, 2, 20), Depth(10, 5, 60), Depth(100, 30, 300)]
    table = DepthTable(tuned, size=5_000, leaves=70)
    assert [int(value) for value in table.lookup(tf.constant(k))] == [leaves_searched, rescored]


def test_at_least_k_candidates_are_rescored() -> None:
    table = DepthTable([Depth(1, 1, 1), Depth(100, 1, 50)], size=5_000, leaves=10)
    assert int(table.lookup(tf.constant(80))[1]) == 80
