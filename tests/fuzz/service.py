"""Sends generated requests to a running service and checks its responses."""

from __future__ import annotations

import functools
import itertools
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Mapping, Set
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from retrieval.v1 import retrieval_service_pb2 as pb
from serving_contract import SEEN_QUERY
from tests.fuzz.contract import BATCH, RETRIEVE, Seen, violations
from tests.fuzz.requests import Request, RequestMaker

#: Status codes that no request may cause.
FORBIDDEN = frozenset(
    [
        "INTERNAL",
        "UNKNOWN",
        "DATA_LOSS",
        "UNIMPLEMENTED",
        "ABORTED",
        "UNAVAILABLE",
        "UNAUTHENTICATED",
    ]
)
_TIMEOUT_S = 30
_CHANNELS = 4
#: How many users of a seen store are queried for, and how many items each may have seen.
_MAX_USERS, _MAX_SEEN_ITEMS = 500, 1_000


@dataclass
class Tally:
    """Counts of the responses and of what is wrong with them."""

    statuses: Counter[str] = field(default_factory=Counter)
    #: Responses ranked by the model for a user, instead of the most popular items.
    personal: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    #: One request for each problem.
    examples: dict[str, Request] = field(default_factory=dict)
    seconds: float = 0.0
    alive: bool = True

    @property
    def clean(self) -> bool:
        """Tell whether no problem was found."""
        return self.alive and not self.violations and FORBIDDEN.isdisjoint(self.statuses)

    def count(self, request: Request, status: str, answer: bytes, seen: Seen | None = None) -> None:
        """Count one response, and check it if its status is OK."""
        self.statuses[status] += 1
        found = violations(*request, answer, seen) if status == "OK" else []
        self.violations.update(found)
        for problem in [*found, *FORBIDDEN & {status}]:
            self.examples.setdefault(problem, request)
        if status == "OK" and request.method == RETRIEVE and not found:
            of_user = pb.RetrieveRequest.FromString(request.data).HasField("user_id")
            by_model = pb.RetrieveResponse.FromString(answer).origin == pb.ORIGIN_MODEL
            self.personal += of_user and by_model

    def line(self) -> str:
        """Return the counts as a row of a Markdown table."""
        shown = ", ".join(f"{name} {count:,}" for name, count in self.statuses.most_common())
        wrong = sum(self.statuses[name] for name in FORBIDDEN)
        return (
            f"| fuzzed requests | {self.statuses.total():,} in {self.seconds:.0f} s | {shown} "
            f"| {self.personal:,} personal "
            f"| {wrong} INTERNAL or the like | {0 if self.alive else 1} crashes "
            f"| {self.violations.total()} broken answers |"
        )


def attack(
    address: str,
    requests: int,
    *,
    seed: int = 0,
    in_flight: int = 64,
    token: str | None = None,
    ca: bytes | None = None,
    seen: Mapping[str, Set[str]] | None = None,
) -> Tally:
    """Send requests and check the responses.

    Args:
        address: HOST:PORT.
        requests: number of requests.
        seed: determines the requests, except for the item ids taken from responses.
        in_flight: number of requests in flight.
        token: sent as ``authorization: Bearer``.
        ca: root certificates in PEM; with them the connection uses TLS.
        seen: seen items by user, for users that the service knows.
    """
    tally, lock, free = Tally(), threading.Lock(), threading.Semaphore(in_flight)
    maker = RequestMaker(seed, [*seen] if seen else [])
    seen_by = (lambda user: seen.get(user, frozenset())) if seen else None
    metadata = (("authorization", f"Bearer {token}"),) if token else None
    channels = [_channel(address, ca, n) for n in range(_CHANNELS)]
    methods: list[dict[str, grpc.UnaryUnaryMultiCallable[bytes, bytes]]] = [
        {
            name: channel.unary_unary(f"/retrieval.v1.RetrievalService/{name}")
            for name in (RETRIEVE, BATCH)
        }
        for channel in channels
    ]

    def done(call: grpc.Future[bytes], request: Request) -> None:
        try:
            status = call.code().name  # type: ignore[attr-defined]
            answer = call.result() if status == "OK" else b""
            with lock:
                tally.count(request, status, answer, seen_by)
                if status == "OK" and request.method == RETRIEVE and not tally.violations:
                    response = pb.RetrieveResponse.FromString(answer)
                    maker.learn([one.item_id for one in response.candidates])
        finally:
            free.release()

    began = time.monotonic()
    for number, request in enumerate(itertools.islice(maker, requests)):
        free.acquire()
        method = methods[number % _CHANNELS][request.method]
        call = method.future(request.data, timeout=_TIMEOUT_S, metadata=metadata)
        call.add_done_callback(functools.partial(done, request=request))
    for _ in range(in_flight):
        free.acquire()
    tally.seconds = time.monotonic() - began
    for channel in channels:
        channel.close()
    tally.alive = _alive(address, ca)
    return tally


def _channel(address: str, ca: bytes | None, number: int) -> grpc.Channel:
    # Channels with different options do not share a connection.
    options = [("grpc.max_receive_message_length", -1), ("fuzz.number", number)]
    if ca is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca), options)


def _alive(address: str, ca: bytes | None) -> bool:
    """Tell whether the service accepts a new connection."""
    with _channel(address, ca, _CHANNELS) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=10)
        except grpc.FutureTimeoutError:
            return False
        return True


def read_seen(path: Path) -> dict[str, frozenset[str]]:
    """Return the seen items of up to 500 users of a ``seen.sqlite`` who have seen at most 1,000."""
    users = "SELECT user_id FROM seen GROUP BY user_id HAVING count(*) <= ? LIMIT ?"
    with closing(sqlite3.connect(path)) as store:
        return {
            user: frozenset(row[0] for row in store.execute(SEEN_QUERY, (user,)))
            for (user,) in store.execute(users, (_MAX_SEEN_ITEMS, _MAX_USERS)).fetchall()
        }


def token_of(path: Path | None) -> str | None:
    """Return the first word of a file, or None without a path."""
    return path.read_text(encoding="utf-8").split()[0] if path else None
