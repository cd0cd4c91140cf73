"""The server processes of benchmarks.service, and what its peers share."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.service.catalogue import Catalogue
from benchmarks.service.load import Failed
from benchmarks.service.usage import tree
from serving_contract import RETRIEVAL, SEEN_SQLITE

ROOT = Path(__file__).resolve().parents[2]
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 20
_READY = re.compile(r" ready on (\S+?:\d+)")


class Server:
    """A running server process: started, waited for, and stopped with all that it started."""

    def __init__(self, command: list[str], log: Path, ready: Callable[[str], str | None]) -> None:
        """Wait until ``ready`` finds the address in what the process has printed.

        Raises:
            Failed: it ended, or takes too long.
        """
        begun = time.perf_counter()
        with log.open("wb") as out:
            self._running = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Ctrl-C is for the parent, which ends the others in order.
                start_new_session=True,
            )
        self.process = psutil.Process(self._running.pid)
        try:
            while not (address := ready(log.read_text(encoding="utf-8", errors="replace"))):
                if self._running.poll() is not None or (
                    time.perf_counter() > begun + _START_TIMEOUT_S
                ):
                    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                    raise Failed("\n".join(["it does not start", *said[-8:], f"see {log}"]))
                time.sleep(0.002)
        except BaseException:
            self.stop()
            raise
        self.address = address
        self.start_seconds = time.perf_counter() - begun

    def stop(self) -> None:
        """Terminate it; kill what is left after a while."""
        if self._running.poll() is not None:
            return
        family = list(tree(self.process))
        self._running.terminate()
        try:
            self._running.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        for left in family[1:]:
            if left.is_running():
                left.kill()


def environment() -> dict[str, str]:
    """Of all processes: this checkout's modules, and nothing sent anywhere."""
    path = [str(ROOT), str(ROOT / "proto"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "ANONYMIZED_TELEMETRY": "False",
    }


def printed_address(said: str) -> str | None:
    """Where a server says that it is."""
    found = _READY.search(said)
    return found[1] if found else None


class Machinery:
    """What the peers share: the catalogue, one model server, and the end of all processes."""

    def __init__(
        self, catalogue: Catalogue, work: Path, stack: ExitStack, serve_args: list[str]
    ) -> None:
        self.catalogue, self.work, self.serve_args = catalogue, work, serve_args
        self._stack = stack
        self._model_server: Server | None = None

    def start(
        self,
        name: str,
        command: list[str],
        ready: Callable[[str], str | None] = printed_address,
    ) -> Server:
        """A server that is stopped at the end at the latest."""
        server = Server([sys.executable, *command], self.work / f"{name}.log", ready)
        self._stack.callback(server.stop)
        return server

    def role(self, name: str, *arguments: str) -> list[str]:
        """The command of a server of benchmarks.service.servers."""
        return ["-m", "benchmarks.service.servers", name, *arguments]

    @property
    def model_server(self) -> Server:
        """The one that all ask who ask one."""
        if not self._model_server:
            command = ["-m", "model_server", "--port", "0", "--model", RETRIEVAL, "--models-dir"]
            self._model_server = self.start(
                "model-server", [*command, str(self.catalogue.models_dir)]
            )
        return self._model_server

    def serve(self, name: str = "shortlist") -> Server:
        """The query service."""
        store = f"sqlite:{self.catalogue.models_dir / SEEN_SQLITE}"
        command = ["-m", "query_service", "serve", "--port", "0", "--seen-store", store]
        return self.start(
            name, [*command, "--model-server", self.model_server.address, *self.serve_args]
        )
