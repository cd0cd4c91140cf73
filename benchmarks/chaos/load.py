"""The steady load: sends requests at fixed times, whether or not earlier requests are answered.

Each request has its own deadline, and its outcome is recorded. At 500 requests per second, the load
generator uses about a tenth of a core.
"""

import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pandas as pd
import psutil
from google.protobuf.message import DecodeError

from benchmarks.chaos.checks import ScenarioError
from benchmarks.chaos.outcomes import OK, Outcome, table
from benchmarks.chaos.requests import Answer, CandidateCheck, Request, check_answer
from query_service.load_test.connection import Connection, LoadTestError

CONNECTIONS = 8
_CONNECT_TIMEOUT_S = 20
_ROUND_ROBIN = (
    "grpc.service_config",
    '{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}',
)


class SteadyLoad:
    """Sends requests from the beginning of its block until :meth:`finish` or the end of the block.

    Attributes:
        ports: the local port of each connection.
        version: the model version in the latest answer.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        requests: Iterable[Request],
        *,
        rate: float,
        deadline_s: float,
        check: CandidateCheck | None = None,
    ) -> None:
        """Prepare to send ``rate`` requests per second, to all ``addresses`` in turn."""
        self._target = f"ipv4:{','.join(addresses)}"
        self._options = [_ROUND_ROBIN] if len(addresses) > 1 else []
        self._requests = itertools.cycle(requests)
        self._rate, self._deadline_s, self._check = rate, deadline_s, check
        self._ended = threading.Event()
        self._pacer = ThreadPoolExecutor(1)
        self._connections: list[Connection] = []
        self.ports: list[int] = []
        self._outcomes: list[Outcome] = []
        self.version = 0

    def __enter__(self) -> Self:
        for _ in range(CONNECTIONS):
            before = _local_ports()
            connection = Connection(self._target, self._deadline_s, options=self._options)
            self._connections.append(connection)
            try:
                connection.connect(_CONNECT_TIMEOUT_S)
            except LoadTestError as error:
                self._close()
                raise ScenarioError(str(error)) from error
            # With several addresses, a gRPC channel has several connections; this is one port.
            self.ports.append(next(iter(_local_ports() - before), 0))
        self._pacing = self._pacer.submit(self._pace)
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> pd.DataFrame:
        """Stop sending, wait for the requests in flight, and return all outcomes."""
        if self._connections:
            self._ended.set()
            self._pacer.shutdown()
            self._close()
            self._pacing.result()  # raises the error that ended the load early, if there was one
        return table(self._outcomes)

    def _close(self) -> None:
        for connection in self._connections:
            # This does not wait long, because every call ends at its deadline.
            connection.close()
        self._connections.clear()

    def _pace(self) -> None:
        start = time.perf_counter()
        for number in itertools.count():
            due = start + number / self._rate
            if self._ended.wait(max(0.0, due - time.perf_counter())):
                return
            self._send(due, number % CONNECTIONS, next(self._requests))

    def _send(self, due: float, connection: int, request: Request) -> None:
        sent = time.perf_counter()

        def done(call: Any) -> None:
            ended = time.perf_counter()
            code, details, answer = call.code().name, "", Answer()
            if code == OK:
                try:
                    answer = check_answer(request, call.result(), self._check)
                except DecodeError:
                    answer = Answer("the answer cannot be decoded")
                self.version = answer.version or self.version
            else:
                details = call.details() or ""
                # An expected error counts as a success.
                code = OK if code == request.code else code
            self._outcomes.append(
                Outcome(due, sent, ended, connection, request.kind, code, details, *answer)
            )

        self._connections[connection].send(request.method, request.data, done)


def _local_ports() -> set[int]:
    """Return the local ports of this process's open TCP connections."""
    sockets = psutil.Process().net_connections("tcp")
    return {one.laddr.port for one in sockets if one.status == psutil.CONN_ESTABLISHED}
