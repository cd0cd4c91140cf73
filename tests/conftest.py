"""Fixtures of several packages: MovieLens 100K, trained models, server processes."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

import trainer  # noqa: F401  (chooses Keras 2 before any test imports TensorFlow)
from tests.skips import (  # noqa: F401
    missing,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)
from tools.processes import ROOT, Server, python_module

# A test run has the same outcome whenever it is repeated, on an idle machine or a busy one. `make
# fuzz` runs the same tests with the profile "random", which tries other examples each time.
hypothesis.settings.register_profile(
    "reproducible",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "random",
    hypothesis.settings.get_profile("reproducible"),
    derandomize=False,
    print_blob=True,
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reproducible"))

# A shell that starts the tests in the background has it ignored, and a process inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

_ML_100K = (ROOT / "data" / "ml-100k", ROOT.parent / "shared" / "data" / "ml-100k")


@pytest.fixture(scope="session")
def ml_100k() -> Path:
    """The unpacked MovieLens 100K."""
    given = os.environ.get("SHORTLIST_ML_100K")
    for path in (Path(given),) if given else _ML_100K:
        if (path / "u.data").is_file():
            return path
    raise missing("MovieLens 100K", "set SHORTLIST_ML_100K to its unpacked directory")


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODELS_DIR with one version of the synthetic data set, published by the command ``run``."""
    # Tests without a model need no TensorFlow, which takes seconds to import.
    from tests.trainer.in_process_checks import in_process_checks
    from trainer.cli.main import main

    directory = tmp_path_factory.mktemp("trained") / "models"
    arguments = ["run", "--dataset", "synthetic", "--models-dir", str(directory)]
    # With the default, the kind of index would depend on the load of the machine. Tests of the
    # training cover validation, early stopping and the refit, which are left out here.
    for setting in ("training.epochs=2", "training.validation_share=0", "index.kind=brute_force"):
        arguments += ["--set", setting]
    with in_process_checks():
        assert main(arguments) == 0
    return directory


@contextmanager
def running(module: str, *arguments: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run a server during a block; yield its address, and its process with stdout as a pipe."""
    with Server(python_module(module, *arguments)) as server:
        yield server.address, server.popen
