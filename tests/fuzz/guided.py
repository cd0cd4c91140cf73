"""Runs a target under libFuzzer (Atheris), guided by the coverage of our code.

Each run is a process of its own: libFuzzer ends the one that it is in.
"""

import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent


class Target(NamedTuple):
    """Where a target is, the package whose coverage guides it, and how many runs are a minute."""

    module: str
    name: str
    ours: str
    runs: int


TARGETS = {
    "request-path": Target("tests.fuzz.request_path", "RequestPath", "query_service", 100_000),
    "predict": Target("tests.fuzz.predict", "PredictAnswers", "query_service", 100_000),
    # Every run writes and reads a file.
    "csv": Target("tests.fuzz.csv_reader", "CsvReader", "trainer.data", 20_000),
}
_DONE = re.compile(r"Done (\d+) runs")
_COVERED = re.compile(r"cov: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """Of one run; ``failure`` is empty where nothing was found."""

    target: str
    runs: int
    covered: int
    seconds: float
    failure: str

    def line(self) -> str:
        """A row of a table."""
        return (
            f"| {self.target} | {self.runs:,} runs in {self.seconds:.0f} s "
            f"| {self.covered} branches | {1 if self.failure else 0} failures |"
        )


def fuzz(target: str, runs: int, seed: int = 1) -> Outcome:
    """Run a target in a process; its log is in the outcome where it failed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        child = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.guided", target, str(runs), str(seed), directory],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        inputs = [path.read_bytes() for path in Path(directory).glob("found-*")]
    log = child.stdout + child.stderr
    done, covered = _DONE.search(log), _COVERED.findall(log)
    failure = "" if child.returncode == 0 and done else f"{log[-6000:]}\ninput: {inputs}"
    seconds = time.monotonic() - began
    return Outcome(
        target, int(done[1]) if done else 0, int(covered[-1]) if covered else 0, seconds, failure
    )


def _child(target: str, runs: int, seed: int, directory: Path) -> None:
    """In the process: does not return."""
    import importlib

    import atheris

    logging.disable(logging.CRITICAL)
    where = TARGETS[target]
    with atheris.instrument_imports(include=[where.ours]):
        module = importlib.import_module(where.module)
    run = getattr(module, where.name)().run
    corpus = directory / "corpus"
    corpus.mkdir()
    for number, data in enumerate(module.seeds()):
        (corpus / str(number)).write_bytes(data)

    def one(data: bytes) -> None:
        run(data)

    atheris.Setup(
        [
            *(sys.argv[0], f"-runs={runs}", f"-seed={seed}", "-max_len=4096", "-timeout=20"),
            *("-rss_limit_mb=4096", f"-artifact_prefix={directory}/found-", str(corpus)),
        ],
        one,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
