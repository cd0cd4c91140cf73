from pathlib import Path

import pytest

from tests.trainer.probe.small_models import save_both, small_servable
from trainer.artifact.servable import Servable


@pytest.fixture(scope="session")
def servable() -> Servable:
    return small_servable()


@pytest.fixture(scope="session")
def exported(servable: Servable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the two models of ``servable``."""
    directory = tmp_path_factory.mktemp("exported")
    save_both(servable, directory)
    return directory
