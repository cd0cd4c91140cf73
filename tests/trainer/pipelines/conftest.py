import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.trainer.pipelines.tastes import SETTINGS, load_towers, tastes_dataset
from trainer import config
from trainer.artifact.stored_towers import StoredTowers
from trainer.data.types import Dataset
from trainer.pipelines.run import run


@pytest.fixture(scope="session")
def data() -> Dataset:
    return tastes_dataset()


@pytest.fixture(scope="session")
def tastes_dir(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODELS_DIR whose version 1 was trained on the data set of tastes."""
    directory = tmp_path_factory.mktemp("tastes") / "models"
    settings = config.load("default", [*SETTINGS, "item_to_item.trained=true"])
    console = Console(file=io.StringIO(), width=200)
    run(data, settings, directory, console)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 item" in output, "the item without interactions and features is left out"
    return directory


@pytest.fixture(scope="session")
def first(tastes_dir: Path) -> StoredTowers:
    """The stored towers of version 1."""
    return load_towers(tastes_dir, 1)
