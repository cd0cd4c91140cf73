"""The steady load: requests at fixed times, whether or not others have been answered.

Each has a deadline of its own, and each is kept: when it was due, sent, ended, and how. Calls are
futures of gRPC's threaded client, as in ``python -m query_service bench``; at 500 requests a second
this takes about a tenth of a core.
"""

import itertools
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Self

import grpc
import psutil
from google.protobuf.message import DecodeError

from benchmarks.chaos.asking import BATCH_RETRIEVE, RETRIEVE, Asked, Judge, Seen, looked_at
from benchmarks.chaos.checks import Broken
from benchmarks.chaos.outcomes import OK, Outcome
from benchmarks.chaos.processes import now

CONNECTIONS = 8
_CONNECT_TIMEOUT_S = 20
_OPTIONS: list[tuple[str, Any]] = [
    # Channels of the same address and options would share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
]
_SEVERAL = (
    "grpc.service_config",
    '{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}',
)


class Load:
    """Sends from :meth:`__enter__` on, until :meth:`finish` or the end of the block."""

    def __init__(
        self,
        addresses: Sequence[str],
        asked: Iterable[Asked],
        *,
        rate: float,
        deadline_s: float,
        judge: Judge | None = None,
    ) -> None:
        """``rate`` requests a second over some connections, to all ``addresses`` in turn."""
        self._target = f"ipv4:{','.join(addresses)}"
        self._options = _OPTIONS + [_SEVERAL] * (len(addresses) > 1)
        self._asked = itertools.cycle(asked)
        self._rate, self._deadline_s, self._judge = rate, deadline_s, judge
        self._ended = threading.Event()
        self._pacer = ThreadPoolExecutor(1)
        self._channels: list[grpc.Channel] = []
        self._methods: list[dict[str, Any]] = []
        self._under_way = 0
        self._idle = threading.Condition()
        #: Of each connection, the port on this side.
        self.ports: list[int] = []
        self.outcomes: list[Outcome] = []
        #: The version that answered last.
        self.version = 0

    def __enter__(self) -> Self:
        for _ in range(CONNECTIONS):
            before = _own_ports()
            channel = grpc.insecure_channel(self._target, options=self._options)
            self._channels.append(channel)
            try:
                grpc.channel_ready_future(channel).result(_CONNECT_TIMEOUT_S)
            except grpc.FutureTimeoutError:
                self._close()
                raise Broken(f"no connection to {self._target}") from None
            # One address makes one connection; with several this names one of them.
            self.ports.append(next(iter(_own_ports() - before), 0))
            paths = (RETRIEVE, BATCH_RETRIEVE)
            self._methods.append({path: channel.unary_unary(path) for path in paths})
        self._pacing = self._pacer.submit(self._pace)
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> list[Outcome]:
        """Send no more, wait for what is under way; everything that there was, by due time."""
        if self._channels:
            self._ended.set()
            self._pacer.shutdown()
            # gRPC ends each by its deadline.
            with self._idle:
                idle = self._idle.wait_for(lambda: not self._under_way, self._deadline_s + 10)
            self._close()
            self._pacing.result()  # raises what has ended the load before its time
            if not idle:
                raise Broken("requests do not end")
            self.outcomes.sort(key=lambda one: one.due)
        return self.outcomes

    def _close(self) -> None:
        for channel in self._channels:
            channel.close()
        self._channels.clear()

    def _pace(self) -> None:
        begun = now()
        for number in itertools.count():
            due = begun + number / self._rate
            if self._ended.wait(max(0.0, due - now())):
                return
            self._send(due, number % CONNECTIONS, next(self._asked))

    def _send(self, due: float, connection: int, asked: Asked) -> None:
        with self._idle:
            self._under_way += 1
        sent = now()
        call = self._methods[connection][asked.method].future(asked.data, timeout=self._deadline_s)
        call.add_done_callback(partial(self._done, due, sent, connection, asked))

    def _done(self, due: float, sent: float, connection: int, asked: Asked, call: Any) -> None:
        ended = now()
        code = call.code().name
        if code == OK:
            try:
                seen = looked_at(asked, call.result(), self._judge)
            except DecodeError:
                seen = Seen(fault="an answer that is no message")
            self.version = seen.version or self.version
            said = ("", seen.fault, seen.origin, seen.version)
        else:
            said = (call.details() or "", "", 0, 0)
        if code != OK and code == asked.code:
            # What it was to end with is no failure.
            code = OK
        self.outcomes.append(Outcome(due, sent, ended, connection, asked.kind, code, *said))
        with self._idle:
            self._under_way -= 1
            self._idle.notify_all()


def _own_ports() -> set[int]:
    """The local ports of this process's connections."""
    connections = psutil.Process().net_connections("tcp")
    return {one.laddr.port for one in connections if one.status == psutil.CONN_ESTABLISHED}
