from collections.abc import Iterator

import pytest

from tests.trainer.in_process_checks import CALLERS, in_process_checks
from trainer.probe.protocol import run_in_fresh_process


@pytest.fixture(scope="session", autouse=True)
def _in_process_checks() -> Iterator[None]:
    with in_process_checks():
        yield


@pytest.fixture
def fresh_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the checks of exported models in fresh processes, as the product does."""
    for module in CALLERS:
        monkeypatch.setattr(module, "run_in_fresh_process", run_in_fresh_process)
