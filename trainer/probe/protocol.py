"""Requests and responses between the trainer and the fresh process that loads models."""

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
    """A request or a response: a JSON object, and arrays in files of their own.

    Attributes:
        values: what fits into JSON; of a request, ``check`` names the check.
        arrays: NumPy arrays of numbers or fixed-width strings, or Arrow arrays of ids.
    """

    values: Mapping[str, Any]
    arrays: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the JSON object to ``path``, and the arrays beside it."""
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
        """Read what :meth:`write` wrote. NumPy arrays are memory-mapped."""
        values = json.loads(path.read_text(encoding="utf-8"))
        arrays: dict[str, Any] = {}
        for file in path.parent.glob(f"{path.stem}.*.*"):
            name = file.stem.removeprefix(f"{path.stem}.")
            if file.suffix == ".feather":
                arrays[name] = pyarrow.feather.read_table(str(file))[_COLUMN].combine_chunks()
            else:
                arrays[name] = np.load(file, mmap_mode="r")
        return cls(values, arrays)


def ask(request: Message, scratch_parent: Path | None = None) -> Message:
    """Answer a request in a fresh process.

    Args:
        request: its ``check`` is one of those in :mod:`trainer.probe.__main__`.
        scratch_parent: where the messages are written; None for the system's directory of
            temporary files, which may be too small for a large catalogue.

    Raises:
        VerificationError: the process failed. The message is the last line of its standard
            error, or names the signal that ended it.
    """
    with tempfile.TemporaryDirectory(dir=scratch_parent, prefix=".probe-") as scratch:
        request_file = Path(scratch) / REQUEST
        request.write(request_file)
        done = subprocess.run(
            [sys.executable, "-m", "trainer.probe", str(request_file)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode < 0:
            raise VerificationError(
                f"the process that loads the models was ended by signal {-done.returncode}; "
                f"the machine may be out of memory"
            )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise VerificationError(lines[-1])
        response = Message.read(request_file.with_name(RESPONSE))
        # Copy the arrays, because their files are about to be removed.
        arrays = {
            name: np.array(array) if isinstance(array, np.ndarray) else array
            for name, array in response.arrays.items()
        }
        return Message(response.values, arrays)
