"""Runs a target under libFuzzer (Atheris), guided by code coverage.

Every run is a separate process, because libFuzzer ends the process that it runs in.
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
    """A class whose ``run`` method takes the bytes of one input.

    Attributes:
        module: the module of the class.
        name: the name of the class.
        covered_package: the package whose coverage guides the fuzzer.
        runs: the number of inputs that take about a minute.
    """

    module: str
    name: str
    covered_package: str
    runs: int


TARGETS = {
    "request-path": Target("tests.fuzz.request_path", "RequestPath", "query_service", 100_000),
    "predict": Target("tests.fuzz.predict", "PredictAnswers", "query_service", 100_000),
    # Slower, because every run writes and reads a file.
    "csv": Target("tests.fuzz.csv_reader", "CsvReader", "trainer.data", 20_000),
}
_DONE = re.compile(r"Done (\d+) runs")
_COVERED = re.compile(r"cov: (\d+)")


@dataclass(frozen=True)
class Result:
    """The result of fuzzing a target; ``failure`` is empty if no failure was found."""

    target: str
    runs: int
    covered: int
    seconds: float
    failure: str

    def line(self) -> str:
        """Return the result as a row of a Markdown table."""
        return (
            f"| {self.target} | {self.runs:,} runs in {self.seconds:.0f} s "
            f"| {self.covered} branches | {1 if self.failure else 0} failures |"
        )


def fuzz(target: str, runs: int, seed: int = 1) -> Result:
    """Fuzz a target in a new process. If it fails, the result contains its log."""
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
    return Result(
        target, int(done[1]) if done else 0, int(covered[-1]) if covered else 0, seconds, failure
    )


def _child(target: str, runs: int, seed: int, directory: Path) -> None:
    """Fuzz in this process, and exit."""
    import importlib

    import atheris

    logging.disable(logging.CRITICAL)
    where = TARGETS[target]
    with atheris.instrument_imports(include=[where.covered_package]):
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
