"""Waits for the models, opens the port, polls, and goes when told to."""

import gc
import logging
import signal
import threading
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from model_server import tls
from model_server.manager import Manager
from model_server.servicer import ModelServicer, PredictionServicer

logger = logging.getLogger(__name__)

_WAITING_LINE_EVERY_S = 10.0
_UNLIMITED = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A second server on the port must fail, not share it.
    ("grpc.so_reuseport", 0),
]


class StartError(Exception):
    """The server cannot start: no TLS, a first load failed, or the port is taken."""


@dataclass(frozen=True)
class Settings:
    """How to serve."""

    models_dir: Path
    host: str = "127.0.0.1"
    port: int = 8500
    models: tuple[str, ...] = ()
    poll_interval_s: float = 1.0
    max_workers: int = 8
    max_concurrent_rpcs: int = 1024
    grace_s: float = 10.0
    require_manifest: bool = False
    ssl_config_file: Path | None = None


class ModelServer:
    """A running server. Made by :meth:`start`; ends with :meth:`stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.manager = Manager(
            settings.models_dir, settings.models, require_manifest=settings.require_manifest
        )
        self._stopped = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="version-poll", daemon=True)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(settings.max_workers, thread_name_prefix="grpc"),
            options=_UNLIMITED,
            maximum_concurrent_rpcs=settings.max_concurrent_rpcs,
        )
        self.port = 0

    def start(self) -> None:
        """Load every model, then open the port.

        Blocks while there is nothing to serve.

        Raises:
            StartError: the TLS configuration is wrong, a first load failed, or the port is
                taken.
        """
        credentials = self._credentials()
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionServicer(self.manager), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(self.manager), self._server
        )
        self._wait_for_models()
        if self._stopped.is_set():
            return
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            self.port = (
                self._server.add_secure_port(address, credentials)
                if credentials
                else self._server.add_insecure_port(address)
            )
        except RuntimeError as error:
            raise StartError(f"cannot listen on {address}: {error}") from error
        self._server.start()
        self._poller.start()

    def stop(self) -> None:
        """Refuse new calls, let those under way end within the grace period, unload."""
        self._stopped.set()
        self._server.stop(self._settings.grace_s).wait()
        if self._poller.is_alive():
            self._poller.join()
        self.manager.close()

    def interrupt(self) -> None:
        """Make :meth:`start` and :meth:`wait` return."""
        self._stopped.set()

    def wait(self) -> None:
        """Block until interrupted."""
        self._stopped.wait()

    def _credentials(self) -> grpc.ServerCredentials | None:
        file = self._settings.ssl_config_file
        try:
            return tls.credentials(file) if file else None
        except tls.TlsError as error:
            raise StartError(f"--ssl-config-file {error}") from error

    def _wait_for_models(self) -> None:
        waited = 0.0
        while not self._stopped.is_set():
            self.manager.poll()
            failures = self.manager.failures()
            if failures:
                raise StartError("; ".join(failures) + _hint(failures))
            if self.manager.ready():
                return
            if waited % _WAITING_LINE_EVERY_S == 0:
                logger.info("waiting for models in %s", self._settings.models_dir)
            self._stopped.wait(self._settings.poll_interval_s)
            waited += self._settings.poll_interval_s

    def _poll(self) -> None:
        while not self._stopped.wait(self._settings.poll_interval_s):
            try:
                self.manager.poll()
            # One bad look at the disk must not end all later ones.
            except Exception:
                logger.exception("the poll failed")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        StartError: see :meth:`ModelServer.start`.
    """
    # TensorFlow's modules are 350,000 objects, there to stay: a look for garbage, which stops all
    # requests, takes 5 ms without them and 180 ms with them.
    gc.freeze()
    server = ModelServer(settings)

    def end(*_: object) -> None:
        # Elsewhere: this thread may be inside the very lock that it would wait for.
        threading.Thread(target=server.interrupt).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.start()
    if server.port:
        models = ", ".join(server.manager.ready())
        print(f"model server ready on {settings.host}:{server.port}: {models}", flush=True)  # noqa: T201
        server.wait()
    server.stop()


def _hint(failures: list[str]) -> str:
    if any("Scann>" in failure for failure in failures):
        return "\nThis machine has no ScaNN: start with --model retrieval_exact"
    return ""
