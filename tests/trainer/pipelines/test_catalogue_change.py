"""Items of a stored catalogue are added, updated and removed as if training had known them."""

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from tests.trainer.pipelines.tastes import SETTINGS, assert_identical, row_of, tastes_dataset
from trainer import config
from trainer.artifact.servable import Servable, keep_items, retrievable_items
from trainer.artifact.stored_towers import StoredTowers
from trainer.data import files
from trainer.data.histories import Histories
from trainer.data.types import Dataset
from trainer.errors import DataError
from trainer.model import training
from trainer.model.towers.query import QueryWeights
from trainer.pipelines.catalogue_change import Counts, change, unknown_columns

NO_IDS = np.zeros(0, object)


def items(**columns: Any) -> files.Items:
    table = pd.DataFrame(columns)
    ids = table.pop("item_id").to_numpy(object)
    titles = table["title"].to_numpy(object) if "title" in table else np.full(len(ids), None)
    return files.Items(ids, titles, table)


@pytest.mark.parametrize("normalize", [True, False])
def test_items_are_embedded_as_training_embeds_them(data: Dataset, normalize: bool) -> None:
    settings = [*SETTINGS, "training.epochs=3", f"model.normalize={str(normalize).lower()}"]
    trained = training.train(
        data, data.interactions, config.load("default", settings), Console(file=io.StringIO())
    )
    towers = trained.items
    assert data.item_features is not None
    features = towers.encoder.encode(data.item_features)
    candidates, history = towers.embed(features)
    np.testing.assert_array_equal(candidates, trained.candidate_vectors)
    np.testing.assert_array_equal(history, trained.query.item_vectors)
    # Items at row -1 are embedded by their features alone, like items without interactions.
    cold, met = len(data.item_ids) - 2, 3
    rows = np.array([-1, met, -1])
    candidates, history = towers.take(rows).embed(features[[cold, met, met]])
    assert history is not None
    assert trained.query.item_vectors is not None
    for vectors, truth in (
        (candidates, trained.candidate_vectors),
        (history, trained.query.item_vectors),
    ):
        np.testing.assert_allclose(vectors[:2], truth[[cold, met]], rtol=1e-6, atol=1e-7)
    # Computed by hand, such a vector is the sum of the features, scaled.
    summed = features[met] @ towers.candidate.features
    if normalize:
        summed /= np.linalg.norm(summed)
    np.testing.assert_allclose(candidates[2], 0.8 * summed[0], rtol=1e-5, atol=1e-6)
    assert towers.history is not None
    np.testing.assert_allclose(
        history[2], (features[met] @ towers.history.features)[0], rtol=1e-5, atol=1e-6
    )


def test_other_items_are_unchanged_to_the_last_bit(first: StoredTowers) -> None:
    given = items(item_id=["new", "i3"], taste=["t0", "t1"], year=[1990, 1981])
    after, counts = change(first, given, np.array(["i7", "i9", "absent"], object))
    assert counts == Counts(added=1, updated=1, removed=2)
    untouched = ~np.isin(first.servable.item_ids, ["i3", "i7", "i9"])
    same = ~np.isin(after.servable.item_ids, ["new", "i3"])
    assert_identical(
        after.keep_items(same).servable.candidate_vectors,
        first.keep_items(untouched).servable.candidate_vectors,
    )
    assert_identical(after.keep_items(same), first.keep_items(untouched))
    assert_identical(change(first, None, NO_IDS)[0], first)


def test_items_changed_together_equal_items_changed_alone(first: StoredTowers) -> None:
    ids = ["b", "i3", "a"]
    given: dict[str, Any] = {
        "item_id": ids, "taste": ["t0", "t1", "t2"], "year": [1990, 1981, 1999]
    }  # fmt: skip
    after, _ = change(first, items(**given), NO_IDS)
    for row, item in enumerate(ids):
        one = {name: values[row : row + 1] for name, values in given.items()}
        alone, _ = change(first, items(**one), NO_IDS)
        for version in ("candidate_vectors", "item_queries"):
            np.testing.assert_allclose(
                getattr(after.servable, version)[row_of(after, item)],
                getattr(alone.servable, version)[row_of(alone, item)],
                rtol=1e-6,
                atol=1e-7,
            )


def test_new_item_equals_an_item_that_training_knew_by_its_features_only(
    first: StoredTowers,
) -> None:
    given = items(item_id=["twin"], taste=["t1"], year=[1985])
    after, _ = change(first, given, NO_IDS)
    servable, (cold, twin) = after.servable, (row_of(after, "cold"), row_of(after, "twin"))
    assert servable.query.item_vectors is not None
    assert servable.item_queries is not None
    for values in (
        *(servable.candidate_vectors, servable.query.item_vectors, servable.item_queries),
        *(servable.query.item_log_weights, servable.popularity, after.items.trained),
    ):
        np.testing.assert_allclose(values[twin], values[cold], rtol=1e-6, atol=1e-7)
    assert not after.items.trained[twin]
    assert after.titles[twin] == "twin"


def test_known_item_keeps_what_training_learned_from_its_interactions(first: StoredTowers) -> None:
    row = row_of(first, "i3")
    given = items(item_id=["i3"], title=["Third"], taste=["t0"], year=["1999"])
    after, counts = change(first, given, NO_IDS)
    assert counts == Counts(updated=1)
    features = first.items.encoder.encode(given.table)
    towers = first.items
    assert towers.trained[row]
    summed = towers.candidate.ids[row] + (features @ towers.candidate.features)[0]
    np.testing.assert_allclose(
        after.servable.candidate_vectors[row], summed / np.linalg.norm(summed), rtol=1e-5, atol=1e-6
    )
    assert (after.servable.candidate_vectors[row] != first.servable.candidate_vectors[row]).any()
    assert towers.history is not None
    assert after.servable.query.item_vectors is not None
    np.testing.assert_allclose(
        after.servable.query.item_vectors[row],
        towers.history.ids[row] + (features @ towers.history.features)[0],
        rtol=1e-5,
        atol=1e-6,
    )
    assert after.titles[row] == "Third"
    for ours, theirs in (
        (after.servable.popularity, first.servable.popularity),
        (after.servable.item_queries, first.servable.item_queries),
        (after.servable.query.item_log_weights, first.servable.query.item_log_weights),
        (after.items, first.items),
    ):
        assert_identical(ours, theirs)
    # The old features give the old vector back.
    assert first.servable.item_ids[row] == "i3"
    old = tastes_dataset().item_features
    assert old is not None
    columns = {str(name): [value] for name, value in old.iloc[row].items()}
    back, _ = change(after, items(item_id=["i3"], **columns), NO_IDS)
    assert back.titles[row] == "Third"
    assert_identical(
        back.servable.candidate_vectors[row].round(5),
        first.servable.candidate_vectors[row].round(5),
    )


def test_values_unknown_to_the_model_are_ignored_and_reported(first: StoredTowers) -> None:
    given = items(item_id=["half", "none"], taste=["t9", "t9"], year=[1985, None])
    after, _ = change(first, given, NO_IDS)
    assert unknown_columns(first, given) == ["taste"]
    assert unknown_columns(first, items(item_id=["a"], taste=["t1"], year=["x"])) == ["year"]
    assert after.servable.item_ids[-2:].tolist() == ["half", "none"], "in the order of the file"
    only_year = items(item_id=["year"], taste=[None], year=[1985])
    np.testing.assert_array_equal(
        after.servable.candidate_vectors[row_of(after, "half")],
        change(first, only_year, NO_IDS)[0].servable.candidate_vectors[-1],
    )
    shown = retrievable_items(after.servable)
    assert after.servable.item_ids[~shown].tolist() == ["void", "none"]


def test_impossible_changes_are_errors(first: StoredTowers) -> None:
    given = items(item_id=["new", "i3"], taste=["t0", "t1"], year=[1990, 1981])
    with pytest.raises(DataError, match="item 'i3' is among both the items to add"):
        change(first, given, np.array(["i4", "i3"], object))
    with pytest.raises(DataError, match="no item that can be retrieved would be left"):
        change(first, None, first.servable.item_ids)


def _small_servable(user_vectors: np.ndarray | None) -> Servable:
    vectors = np.arange(1, 9, dtype=np.float32).reshape(4, 2)
    return Servable(
        query=QueryWeights(
            base=np.zeros(2, np.float32),
            item_vectors=vectors * 10,
            item_log_weights=np.arange(4, dtype=np.float32),
            age_log_weights=np.zeros(16, np.float32),
            exponent=0.0,
            history_length=5,
            user_vectors=user_vectors,
            normalize=False,
        ),
        user_ids=np.array(["u", "v", "w", "x"], object),
        # User x has no history from the beginning.
        histories=Histories(np.array([0, 3, 4, 6, 6]), np.array([0, 2, 3, 2, 1, 2], np.int32)),
        candidate_vectors=vectors,
        item_ids=np.array(list("abcd"), object),
        popularity=np.array([1, 1, 3, 1], np.float32),
    )


def test_removed_items_are_gone_from_vectors_histories_and_users() -> None:
    kept = np.array([True, True, False, True])
    left = keep_items(_small_servable(None), kept)
    assert left.item_ids.tolist() == ["a", "b", "d"]
    assert left.popularity.tolist() == [1, 1, 1]
    assert left.candidate_vectors.tolist() == [[1, 2], [3, 4], [7, 8]]
    assert left.query.item_vectors is not None
    assert left.query.item_vectors.tolist() == [[10, 20], [30, 40], [70, 80]]
    assert left.query.item_log_weights.tolist() == [0, 1, 3]
    # Nothing is known of user v any more.
    assert left.user_ids.tolist() == ["u", "w", "x"]
    assert left.histories.offsets.tolist() == [0, 2, 3, 3]
    assert left.histories.items.tolist() == [0, 2, 1]
    assert left.histories.items.dtype == np.int32
    own = keep_items(_small_servable(np.ones((4, 2), np.float32)), kept)
    assert own.user_ids.tolist() == ["u", "v", "w", "x"]
