"""What several packages' tests need: the data where it is at hand, trained models, servers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import trainer  # noqa: F401  (chooses Keras 2 before any test imports TensorFlow)

# A shell that starts the tests in the background has it ignored, and a process inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
_ML_100K = (ROOT / "data" / "ml-100k", ROOT.parent / "shared" / "data" / "ml-100k")


@pytest.fixture(scope="session")
def ml_100k() -> Path:
    """The unpacked MovieLens 100K."""
    given = os.environ.get("SHORTLIST_ML_100K")
    for path in (Path(given),) if given else _ML_100K:
        if (path / "u.data").is_file():
            return path
    pytest.skip("MovieLens 100K is not at hand; set SHORTLIST_ML_100K to its directory")


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``python -m trainer run`` leaves behind, from the synthetic data set."""
    directory = tmp_path_factory.mktemp("trained") / "models"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "trainer", "run", "--dataset", "synthetic"),
            *("--models-dir", str(directory), "--set", "training.epochs=4"),
            # Else it depends on how busy the machine is.
            *("--set", "index.kind=brute_force"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@contextmanager
def running(
    module: str, *arguments: str, start_new_session: bool = False
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A server process, from its ready line on: the address in that line, the process."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=start_new_session,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert " ready on " in line, f"{module} did not start: {line!r}"
        yield line.split(" ready on ")[1].split(": ")[0], process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        assert process.stdout is not None
        process.stdout.close()
