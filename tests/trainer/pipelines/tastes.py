"""A data set of items with tastes and years, and the stored towers of models trained on it."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainer.artifact import stored_towers
from trainer.artifact.stored_towers import StoredTowers
from trainer.data import synthetic
from trainer.data.types import Dataset

TASTES = 4
ITEMS = 80
SETTINGS = [
    *("model.embedding_dim=13", "model.new_item_scale=0.8", "model.user_id=true"),
    "model.item_id_dropout=0.5",
    *("training.epochs=12", "training.validation_share=0", "training.learning_rate=0.05"),
]


def tastes_dataset() -> Dataset:
    """Return 80 items of four tastes and two decades, and two items without interactions.

    Of these two, "cold" has features and "void" has none.
    """
    data = synthetic.load(users=120, items=ITEMS, interactions=3000, tastes=TASTES)
    assert data.item_features is not None
    table = pd.DataFrame(
        {
            "taste": [f"t{taste}" for taste in data.item_features["taste"]],
            "year": 1980.0 + np.arange(ITEMS) % 20,
        }
    )
    without_interactions = pd.DataFrame({"taste": ["t1", None], "year": [1985.0, None]})
    return replace(
        data,
        item_ids=np.append(data.item_ids, ["cold", "void"]),
        titles=np.append(data.titles, ["Çold\x00", "Void"]),
        item_features=pd.concat([table, without_interactions], ignore_index=True),
    )


def version_directory(models_dir: Path, version: int) -> Path:
    return models_dir / "versions" / str(version)


def load_towers(models_dir: Path, version: int) -> StoredTowers:
    return stored_towers.load(version_directory(models_dir, version) / "towers")


def row_of(one: StoredTowers, item: str) -> int:
    return int(np.flatnonzero(one.servable.item_ids == item)[0])


def assert_identical(ours: Any, theirs: Any, where: str = "") -> None:
    """Assert that two objects are equal to the last bit, including the arrays they contain."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype, where
        np.testing.assert_array_equal(ours, theirs, where, strict=True)
    elif dataclasses.is_dataclass(ours):
        for field in dataclasses.fields(ours):
            name = field.name
            assert_identical(getattr(ours, name), getattr(theirs, name), f"{where}.{name}")
    else:
        assert ours == theirs, where
