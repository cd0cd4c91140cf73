"""The stored towers of a version come back exactly as they were saved."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.trainer.pipelines.tastes import (
    SETTINGS,
    assert_identical,
    tastes_dataset,
    version_directory,
)
from trainer import config
from trainer.artifact import stored_towers
from trainer.artifact.servable import Servable
from trainer.artifact.stored_towers import StoredTowers
from trainer.errors import DataError
from trainer.model import training


@pytest.mark.parametrize(
    "settings",
    [
        ["model.user_id=false"],
        ["model.history_length=0", "model.normalize=false", "model.item_features=[]"],
        ["model.embedding_dim=1"],
    ],
    ids=["no user vectors", "no history, no features", "one dimension"],
)
def test_towers_come_back_identical_to_the_last_bit(settings: list[str], tmp_path: Path) -> None:
    data = tastes_dataset()
    chosen = [*SETTINGS, "training.epochs=1", *settings]
    # An item without interactions in the middle of the catalogue.
    rows = data.interactions.take(data.interactions.items != 5)
    trained = training.train(
        data, rows, config.load("default", chosen), Console(file=io.StringIO())
    )
    histories = trained.histories
    given = np.linspace(0, 1, len(histories.items), dtype=np.float32)
    whole = Servable(
        query=trained.query,
        user_ids=data.user_ids,
        histories=replace(histories, ratings=given),
        candidate_vectors=trained.candidate_vectors,
        item_ids=data.item_ids,
        popularity=np.arange(len(data.item_ids), dtype=np.float32),
        item_queries=trained.candidate_vectors + 1,
    )
    without_optional_parts = replace(
        whole, histories=replace(histories, ratings=None), item_queries=None
    )
    for name, servable in (("whole", whole), ("least", without_optional_parts)):
        before = StoredTowers(servable, data.titles, trained.items, trained.config)
        stored_towers.save(tmp_path / name, before)
        assert_identical(stored_towers.load(tmp_path / name), before)


def test_unreadable_towers_are_an_error(tmp_path: Path, tastes_dir: Path) -> None:
    with pytest.raises(DataError, match=r"absent/towers\.json: no such file; .* trained again"):
        stored_towers.load(tmp_path / "absent")
    for name, content in (
        ("towers.json", b"{"),
        ("towers.json", b"[" * 100_000),
        ("arrays.npz", b"PK"),
        ("arrays.npz", b""),
    ):
        damaged = tmp_path / "damaged"
        damaged.mkdir(exist_ok=True)
        for path in (version_directory(tastes_dir, 1) / "towers").iterdir():
            (damaged / path.name).write_bytes(path.read_bytes())
        (damaged / name).write_bytes(content)
        with pytest.raises(DataError, match="damaged cannot be read"):
            stored_towers.load(damaged)
    (damaged / "towers.json").write_text('{"format": 0}')
    with pytest.raises(DataError, match="another release"):
        stored_towers.load(damaged)
