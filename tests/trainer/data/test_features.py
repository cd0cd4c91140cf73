import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import features, files
from trainer.data.columns import KINDS, Column, NumberColumn
from trainer.data.features import FeatureEncoder
from trainer.errors import DataError


def _fit(values: Any, kind: str = "") -> FeatureEncoder:
    named = f"c:{kind}" if kind else "c"
    return features.fit(pd.DataFrame({"c": values}), [named], "items")


def _feature_names(column: Column) -> list[str]:
    if isinstance(column, NumberColumn):
        return [f"{column.name}=bucket {number}" for number in range(column.size)]
    return [f"{column.name}={token}" for token in column.vocabulary]  # type: ignore[attr-defined]


def _rows(encoder: FeatureEncoder, values: Any) -> list[dict[str, float]]:
    """Return the features of every entity by name."""
    matrix = encoder.encode(pd.DataFrame({"c": values}))
    assert matrix.dtype == np.float32
    names = [name for column in encoder.columns for name in _feature_names(column)]
    assert matrix.shape == (len(values), encoder.size) == (len(values), len(names))
    return [
        {names[i]: float(row[i]) for i in np.flatnonzero(row)}
        for row in matrix.toarray().astype(np.float64)
    ]


def test_category_of_a_single_entity_is_not_a_feature() -> None:
    encoder = _fit(["red", "blue", "red", "blue", "lone", None, ""], "category")
    assert _rows(encoder, ["red", "lone", "new", None, ""]) == [{"c=red": 1.0}, {}, {}, {}, {}]


def test_features_of_a_value_with_several_tags_have_length_1() -> None:
    encoder = _fit(["a|b", "a | b|a|", "b|c", "c", None], "tags")
    share = pytest.approx(1 / np.sqrt(2))
    assert _rows(encoder, ["a|b", "c|new", "c|a", "", None]) == [
        {"c=a": share, "c=b": share},
        {"c=c": 1.0},
        {"c=a": share, "c=c": share},
        {},
        {},
    ]


def test_texts_are_encoded_as_sets_of_words_ignoring_case() -> None:
    encoder = _fit(["The ÉTOILE", "the étoile!", "other"], "text")
    share = pytest.approx(1 / np.sqrt(2))
    assert _rows(encoder, ["the Étoile the", "other", "THE"]) == [
        {"c=the": share, "c=étoile": share},
        {},
        {"c=the": 1.0},
    ]


def test_numbers_fall_into_20_equal_buckets() -> None:
    encoder = _fit(list(range(100)), "number")
    assert encoder.size == 20
    buckets = encoder.encode(pd.DataFrame({"c": range(100)})).indices
    assert buckets.tolist() == [number // 5 for number in range(100)]
    # Numbers out of range are in the first or last bucket; other values are in none.
    unusual = ["-1e9", 1e9, np.nan, None, "soon", np.inf, "7"]
    assert [list(row) for row in _rows(encoder, unusual)] == [
        ["c=bucket 0"],
        ["c=bucket 19"],
        [],
        [],
        [],
        [],
        ["c=bucket 1"],
    ]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_every_number_is_in_one_bucket_and_order_is_kept(values: list[float]) -> None:
    encoder = _fit(values, "number")
    buckets = encoder.encode(pd.DataFrame({"c": values})).indices
    assert len(buckets) == len(values)
    assert (np.diff(buckets[np.argsort(values, kind="stable")]) >= 0).all()
    # An empty bucket would be a feature without training data.
    assert set(buckets) >= {0, encoder.size - 1}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3, np.nan], "number"),
        (["1990", "1991", "", "1992"], "number"),
        (pd.to_datetime(pd.Series(["2020-01-01", None, "2021-01-01"])), "number"),
        ([0, 1, 1, 0], "category"),
        ([True, False, True, None], "category"),
        (["x", "y", "x", "y"], "category"),
        (["a|b", "c", "a", "c"], "tags"),
        ([np.array(["a", "b"]), None, np.array(["a"]), np.array(["b"])], "tags"),
        ([["a", "b"], ["a"], [], ["b"]], "tags"),
        (["one two", "two three", "one"], "text"),
        (pd.Categorical(["x", "x", None]), "category"),
    ],
)
def test_kind_is_guessed_from_the_values(values: Any, kind: str) -> None:
    assert [column.kind for column in _fit(values).columns] == [kind]


@pytest.mark.parametrize("values", [[None, np.nan, ""], [], ["only", "once"]])
def test_column_without_information_is_left_out(values: list[Any]) -> None:
    assert _fit(values).columns == ()
    assert _fit(values, "number").columns == ()
    assert _fit(values).encode(pd.DataFrame({"c": ["x"]})).shape == (1, 0)


def test_lists_can_be_tags_or_words() -> None:
    values = [np.array(["sci fi", "war"]), np.array(["war", None, "sci fi"]), None]
    share = pytest.approx(1 / np.sqrt(2))
    assert _rows(_fit(values, "tags"), values) == [{"c=sci fi": share, "c=war": share}] * 2 + [{}]
    words = {name: pytest.approx(1 / np.sqrt(3)) for name in ("c=fi", "c=sci", "c=war")}
    assert _rows(_fit(values, "text"), values) == [words, words, {}]


def test_dates_are_encoded_as_numbers() -> None:
    days = pd.to_datetime(pd.Series(["2020-01-01", "2020-01-02", None, "2020-01-03"]))
    rows = _fit(days, "number").encode(pd.DataFrame({"c": days}))
    assert np.diff(rows.indptr).tolist() == [1, 1, 0, 1]
    assert rows.indices.tolist() == sorted(set(rows.indices))


def test_auto_takes_every_column_but_named_kinds_win() -> None:
    table = pd.DataFrame({"year": [1, 2, 1, 2, 3], "a:b": ["x", "x", "y", "y", "y"]})
    both = features.fit(table, ["auto"], "items")
    assert [(column.name, column.kind) for column in both.columns] == [
        ("year", "number"),
        ("a:b", "category"),
    ]
    for wanted in (["auto", "year:category"], ["year:category", "auto"]):
        encoder = features.fit(table, wanted, "items")
        assert [(column.name, column.kind) for column in encoder.columns] == [
            ("year", "category"),
            ("a:b", "category"),
        ]
    named = features.fit(table, ["a:b", "a:b:tags"], "items")
    assert [(column.name, column.kind) for column in named.columns] == [("a:b", "tags")]
    assert features.fit(table, [], "items").columns == ()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["genre"], "model.item_features: items have no column 'genre'; the columns are year, "),
        (["genre:tags"], "items have no column 'genre'; the columns are year, title"),
        (["tile"], "items have no column 'tile'; did you mean 'title'"),
        (["year:numbers"], "'year:numbers' names an unknown kind of column; the kinds are num"),
        (["year:"], "'year:' names an unknown kind"),
    ],
)
def test_unknown_column_or_kind_is_refused(wanted: list[str], message: str) -> None:
    table = pd.DataFrame({"year": [1, 2], "title": ["a", "b"]})
    with pytest.raises(DataError, match=message):
        features.fit(table, wanted, "items")


def test_without_a_table_there_are_no_features() -> None:
    assert features.fit(None, ["auto"], "users").columns == ()
    with pytest.raises(
        DataError,
        match=r"model\.user_features names the column age, but .* no table of users; pass",
    ):
        features.fit(None, ["auto", "age"], "users")


def test_columns_of_a_parquet_file_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("user_id,item_id\nu,a\nu,b\nu,c\nu,absent\n")
    pd.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "genres": [["x", "y"], ["x"], ["y"]],
            "free": [True, False, True],
            "made": [datetime.datetime(2020, 1, day) for day in (1, 2, 3)],
            "price": [1.5, None, 2.5],
        }
    ).to_parquet(tmp_path / "i.parquet")
    data = files.load(tmp_path / "c.csv", tmp_path / "i.parquet")
    assert data.item_features is not None
    encoder = features.fit(data.item_features, ["auto"], "items")
    assert {column.name: column.kind for column in encoder.columns} == {
        "genres": "tags",
        "free": "category",
        "made": "number",
    }
    rows = encoder.encode(data.item_features).toarray()
    assert rows[:3].any(axis=1).all()
    assert not rows[3].any(), "an item that the file does not have"


def test_encoder_is_restored_from_json() -> None:
    table = pd.DataFrame(
        {"year": [1, 2, 3], "genres": ["a|b", "a", "b"], "kind": ["x", "x", "y"], "title": "a b"}
    )
    encoder = features.fit(table, ["auto", "title:text"], "items")
    assert {column.kind for column in encoder.columns} == set(KINDS)
    assert FeatureEncoder.from_list(json.loads(json.dumps(encoder.as_list()))) == encoder


def test_encoder_of_the_first_release_can_be_read() -> None:
    stored: list[dict[str, Any]] = [
        {"name": "genres", "kind": "tags", "vocabulary": ["a", "b"], "bounds": []},
        {"name": "year", "kind": "number", "vocabulary": [], "bounds": [1.5, 2.0]},
    ]
    encoder = FeatureEncoder.from_list(stored)
    assert encoder.size == 5
    table = pd.DataFrame({"genres": ["b"], "year": [1.7]})
    assert encoder.encode(table).toarray().tolist() == [[0, 1, 0, 1, 0]]
