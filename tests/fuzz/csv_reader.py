"""Fuzz target: bytes as a CSV file of interactions."""

import shutil
import tempfile
import weakref
from pathlib import Path

from serving_contract import MAX_ID_BYTES
from tests.fuzz.contract import Violation
from trainer.data import files
from trainer.errors import DataError


class CsvReader:
    """Reads the input as a file of interactions."""

    def __init__(self) -> None:
        directory = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, directory)
        self._path = Path(directory) / "clicks.csv"

    def run(self, data: bytes) -> bool:
        """Tell whether the file could be read.

        Raises:
            Violation: the reader returned invalid rows, or raised an error that does not name the
                file. Unexpected exceptions are not caught.
        """
        self._path.write_bytes(data)
        try:
            found = files.load(self._path)
        except DataError as error:
            if not str(error).startswith(str(self._path)):
                raise Violation(str(error)) from error
            return False
        rows = found.interactions
        for ids, positions in ((found.user_ids, rows.users), (found.item_ids, rows.items)):
            if not all(0 < len(one.encode()) <= MAX_ID_BYTES for one in ids):
                raise Violation("an invalid id")
            if len(set(ids)) < len(ids) or not 0 <= positions.min() <= positions.max() < len(ids):
                raise Violation("positions outside the vocabulary")
        return True


def seeds() -> list[bytes]:
    """Return the inputs that fuzzing starts from."""
    return [
        b"user_id,item_id\n1,2\n",
        b'\xef\xbb\xbfuser_id,item_id,timestamp,rating\r\n1,"a,\n""b",5,4.5\r\n',
        b"item_id,user_id,other,timestamp\n2,1,x,1970-01-02T03:04:05Z\n\n7,7,,9999-12-31\n",
    ]
