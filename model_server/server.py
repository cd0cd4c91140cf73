"""The server process: loads the models, opens the port, polls for new versions, shuts down."""

import gc
import logging
import signal
import threading
import time
from concurrent import futures

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from model_server import tls
from model_server.manager import Manager
from model_server.servicer import ModelServicer, PredictionServicer
from model_server.settings import Settings
from rpc.addresses import host_port
from rpc.errors import StartError

logger = logging.getLogger(__name__)

_LOG_WAITING_EVERY_S = 10.0
_SIGNAL_CHECK_INTERVAL_S = 0.2
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A second server on the same port has to fail instead of sharing it.
    ("grpc.so_reuseport", 0),
]


class ModelServer:
    """A gRPC server and the thread that polls for new versions.

    Attributes:
        manager: Holds the loaded versions.
        port: The TCP port, or 0 before the server listens.
        stopped: An event; setting it makes :meth:`start` return early.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.manager = Manager(
            settings.models_dir, settings.models, require_manifest=settings.require_manifest
        )
        self.stopped = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="version-poll", daemon=True)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(settings.max_workers, thread_name_prefix="grpc"),
            options=_CHANNEL_OPTIONS,
            maximum_concurrent_rpcs=settings.max_concurrent_rpcs,
        )
        self.port = 0

    def start(self) -> None:
        """Wait until every model is loaded, then open the port.

        Raises:
            StartError: The TLS file is invalid, a model could not be loaded, or the port is in use.
        """
        file = self._settings.ssl_config_file
        credentials = tls.credentials(file) if file else None
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionServicer(self.manager), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(self.manager), self._server
        )
        self._wait_for_models()
        if self.stopped.is_set():
            return
        address = host_port(self._settings.host, self._settings.port)
        try:
            if credentials:
                self.port = self._server.add_secure_port(address, credentials)
            else:
                self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise StartError(f"cannot listen on {address}: {error}") from error
        self._server.start()
        self._poller.start()

    def stop(self) -> None:
        """Refuse new requests, let those in flight finish within the grace period, and unload."""
        self.stopped.set()
        self._server.stop(self._settings.grace_s).wait()
        if self._poller.is_alive():
            self._poller.join()
        self.manager.close()

    def _wait_for_models(self) -> None:
        next_log_s = 0.0
        while not self.stopped.is_set():
            self.manager.poll()
            failures = self.manager.failures()
            if failures:
                raise StartError("; ".join(failures) + _scann_hint(failures))
            if self.manager.ready():
                return
            if time.monotonic() >= next_log_s:
                logger.info("waiting for models in %s", self._settings.models_dir)
                next_log_s = time.monotonic() + _LOG_WAITING_EVERY_S
            self.stopped.wait(self._settings.poll_interval_s)

    def _poll(self) -> None:
        while not self.stopped.wait(self._settings.poll_interval_s):
            try:
                self.manager.poll()
            # An error, such as an unreadable disk, must not prevent later checks.
            except Exception:
                logger.exception("checking for new versions failed; the next check follows")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, and print a line when the server is ready.

    Raises:
        StartError: See :meth:`ModelServer.start`.
    """
    # TensorFlow's modules consist of 350,000 objects that are never freed. Freezing these objects
    # shortens a full garbage collection, which blocks all requests, from 180 ms to 5 ms.
    gc.freeze()
    server = ModelServer(settings)

    def stop_soon(*_: object) -> None:
        # Use another thread, because the interrupted code may hold the lock of the event.
        threading.Thread(target=server.stopped.set).start()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, stop_soon)
    server.start()
    if server.port:
        models = ", ".join(server.manager.ready())
        address = host_port(settings.host, server.port)
        print(f"model server ready on {address}: {models}", flush=True)  # noqa: T201
        # Python runs signal handlers only in this thread. If the kernel delivers a signal to
        # another thread, the handler runs when the wait times out.
        while not server.stopped.wait(_SIGNAL_CHECK_INTERVAL_S):
            pass
    server.stop()


def _scann_hint(failures: list[str]) -> str:
    """Return a line of advice if models failed to load because ScaNN is missing, else ""."""
    if any("Scann>" in failure for failure in failures):
        return "\nScaNN is not installed here. Serve the exact index with --model retrieval_exact"
    return ""
