"""A store in a temporary directory."""

from pathlib import Path

import pytest

from trainer.registry.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models", lock_wait_s=0.2)
