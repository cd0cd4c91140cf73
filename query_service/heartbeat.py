"""A file that is touched while the service is SERVING, for health checks of containers.

A check that tests the age of the file costs a few milliseconds of CPU time. One that calls the
service has to start Python and load gRPC, which takes about half a second of a CPU.
"""

import logging
from pathlib import Path

from query_service.errors import StartError

logger = logging.getLogger(__name__)


class Heartbeat:
    """Touches a file."""

    def __init__(self, path: str) -> None:
        """Take the path of the file. An empty path switches the heartbeat off."""
        self._path = Path(path) if path else None
        self._failing = False

    def check(self) -> None:
        """Raise StartError if the file cannot be written."""
        if self._path:
            try:
                self._path.touch()
                # It must not look as if the service were SERVING already.
                self._path.unlink()
            except OSError as error:
                raise StartError(f"--heartbeat-file {self._path}: {error.strerror}") from error

    def beat(self) -> None:
        """Touch the file. Log an error if that fails, once per series of failures."""
        if self._path:
            try:
                self._path.touch()
                self._failing = False
            except OSError as error:
                if not self._failing:
                    logger.error("the heartbeat file cannot be touched: %s", error)
                self._failing = True
