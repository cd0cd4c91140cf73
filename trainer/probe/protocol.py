"""Sends a request to a fresh process that loads exported models, and reads the response.

A request or response is a JSON file and array files next to it, so arrays can be memory-mapped.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather

from trainer.errors import VerificationError

REQUEST = "request.json"
RESPONSE = "response.json"
_COLUMN = "values"


@dataclass(frozen=True, eq=False)
class Message:
    """A request or a response: a JSON object, and arrays in separate files.

    Attributes:
        values: the content of the JSON object. In a request, ``check`` names the check to run.
        arrays: NumPy arrays of numbers or fixed-width strings, and Arrow arrays of ids.
    """

    values: Mapping[str, Any]
    arrays: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the JSON object to ``path``, and the arrays to files next to it."""
        for name, array in self.arrays.items():
            if isinstance(array, pa.Array):
                table = pa.table({_COLUMN: array})
                file = path.with_name(f"{path.stem}.{name}.feather")
                pyarrow.feather.write_feather(table, str(file), compression="uncompressed")
            else:
                np.save(path.with_name(f"{path.stem}.{name}.npy"), array)
        path.write_text(json.dumps(self.values), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Message":
        """Read a message that :meth:`write` wrote, with memory-mapped NumPy arrays."""
        values = json.loads(path.read_text(encoding="utf-8"))
        arrays: dict[str, Any] = {}
        for file in path.parent.glob(f"{path.stem}.*.*"):
            name = file.stem.removeprefix(f"{path.stem}.")
            if file.suffix == ".feather":
                arrays[name] = pyarrow.feather.read_table(str(file))[_COLUMN].combine_chunks()
            else:
                arrays[name] = np.load(file, mmap_mode="r")
        return cls(values, arrays)


def run_in_fresh_process(request: Message, scratch_parent: Path | None = None) -> Message:
    """Run a check in a fresh process and return its response.

    Args:
        request: the request for one of the checks in :mod:`trainer.probe.__main__`.
        scratch_parent: the directory in which a temporary directory for the messages is created.
            None uses the system's directory, which may be too small for a large catalogue.

    Raises:
        VerificationError: the process failed. The message is the last line of its standard
            error, or names the signal that killed it.
    """
    with tempfile.TemporaryDirectory(dir=scratch_parent, prefix=".probe-") as scratch:
        request_file = Path(scratch) / REQUEST
        request.write(request_file)
        completed = subprocess.run(
            [sys.executable, "-m", "trainer.probe", str(request_file)],
            capture_output=True,
            text=True,
            check=False,
        )
        if completed.returncode < 0:
            raise VerificationError(
                f"the process that loads the models was killed by signal {-completed.returncode}; "
                "the machine may be out of memory"
            )
        if completed.returncode:
            lines = completed.stderr.strip().splitlines() or [
                f"the process that loads the models failed with status {completed.returncode}"
            ]
            raise VerificationError(lines[-1])
        response = Message.read(request_file.with_name(RESPONSE))
        # Copy memory-mapped arrays, whose files are about to be removed.
        arrays = {
            name: np.array(array) if isinstance(array, np.ndarray) else array
            for name, array in response.arrays.items()
        }
        return Message(response.values, arrays)
