"""A file that is touched while the service is SERVING, for health checks of containers.

A check of the file's age takes a few milliseconds of CPU time. A check that calls the service has
to start Python and load gRPC, which takes about half a second of CPU time.
"""

import logging
from pathlib import Path

from query_service.errors import StartError

logger = logging.getLogger(__name__)


class Heartbeat:
    """Touches the heartbeat file."""

    def __init__(self, path: str) -> None:
        """Use the file at ``path``. An empty path switches the heartbeat off."""
        self._path = Path(path) if path else None
        self._failing = False

    def check(self) -> None:
        """Raise StartError if the file cannot be written."""
        if self._path:
            try:
                self._path.touch()
                # Remove it, because the service is not SERVING yet.
                self._path.unlink()
            except OSError as error:
                raise StartError(f"--heartbeat-file {self._path}: {error.strerror}") from error

    def beat(self) -> None:
        """Touch the file. If this fails repeatedly, only the first failure is logged."""
        if self._path:
            try:
                self._path.touch()
                self._failing = False
            except OSError as error:
                if not self._failing:
                    logger.error("the heartbeat file cannot be touched: %s", error)
                self._failing = True
