import pytest
import tensorflow as tf

from trainer.index.scann.depth import Depth, DepthTable

TUNED = [Depth(1, 2, 20), Depth(10, 5, 60), Depth(100, 30, 300)]


@pytest.fixture(scope="module")
def table() -> DepthTable:
    return DepthTable(TUNED, size=5_000, leaves=70)


@pytest.mark.parametrize("k", [1, 7, 10, 55, 100, 101, 250, 4_999, 5_000])
def test_lookup_in_a_graph_equals_numpy(table: DepthTable, k: int) -> None:
    leaves, rescored = table.lookup(tf.constant(k))
    assert table.at(k) == Depth(k, int(leaves), int(rescored))
    assert int(rescored) >= k


def test_tuned_depths_are_unchanged_and_others_interpolated(table: DepthTable) -> None:
    assert [table.at(depth.k) for depth in TUNED] == TUNED
    assert table.at(55) == Depth(55, 18, 180)


def test_depth_beyond_the_largest_tuned_k_grows_up_to_the_whole_index(table: DepthTable) -> None:
    assert table.at(101) == Depth(101, 60, 600)
    assert table.at(250).leaves_searched == 70
    assert table.at(5_000).rescored == 5_000
