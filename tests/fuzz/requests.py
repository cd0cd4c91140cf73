"""Generates requests, from valid ones to random bytes. A seed determines the sequence."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from retrieval.v1 import retrieval_service_pb2 as pb
from tests.fuzz.contract import BATCH, RETRIEVE

_ODD_TEXTS = [
    *("", "\0", "i0\0", "a" * 255, "a" * 256, "a" * 257, "é" * 128, "é" * 129, "\U0010ffff" * 64),
    *("'; DROP TABLE seen; --", "../../etc/passwd", "%s%n", "\u202e", "\n", "nan", "-1"),
]
_ODD_NUMBERS = [0, 1, -1, 999, 1000, 1001, 2**31 - 1, -(2**31)]
#: Short byte strings, valid or not: wire types, groups, overlong varints, invalid UTF-8.
_ODD_BYTES = [
    *(b"\xa2\x06\x04abcd", b"\x0a\x02\xc3\x28", b"\x0a\x03\xed\xa0\x80", b"\x0a\xff", b"\x18"),
    *(b"\x18" + b"\xff" * 9 + b"\x01", b"\x18" + b"\xff" * 10, b"\x53\x54", b"\x53", b"\x54"),
    *(b"\x53" * 99 + b"\x54" * 99, b"\x53" * 5000, b"\x0a" + b"\xff" * 9 + b"\x01", b"\x07\x00"),
    *(b"\x2a\x00" * 50, b"\x0a\x01a\x12\x01b", b"\x12\x01b\x0a\x01a", b"\x00\x00", b"\x0e"),
]


class Request(NamedTuple):
    """The name of a method and a serialized request."""

    method: str
    data: bytes


class RequestMaker:
    """Generates an endless sequence of requests, with item ids from earlier responses."""

    def __init__(self, seed: int, user_ids: Sequence[str] = ()) -> None:
        """Generate requests for some made-up users and for ``user_ids``, whom the service knows."""
        self._random = random.Random(seed)
        self.item_ids = ["i0", "i1", "1", "2", "50", "item"]
        self._user_ids = ["u", "u1", "1", "2", "943", "nobody", *user_ids]

    def __iter__(self) -> Iterator[Request]:
        makers: list[Callable[[], Request]] = [
            self._valid,
            self._unusual,
            self._mutated,
            self._random_bytes,
        ]
        while True:
            yield self._random.choices(makers, (40, 30, 25, 5))[0]()

    def learn(self, item_ids: list[str]) -> None:
        """Use ids that the service knows in later requests, as queries and exclusions."""
        if item_ids and len(self.item_ids) < 2000:
            self.item_ids += item_ids[:20]

    def _valid(self) -> Request:
        if self._random.random() < 0.1:
            count = self._random.choice([1, 2, 5, 20])
            batch = pb.BatchRetrieveRequest(requests=[self._query() for _ in range(count)])
            return Request(BATCH, batch.SerializeToString())
        return Request(RETRIEVE, self._query().SerializeToString())

    def _query(self) -> pb.RetrieveRequest:
        draw = self._random
        fields: dict[str, Any] = {
            "max_candidates": draw.choice([0, 1, 3, 10, 50]),
            "exclude_item_ids": self._items(draw.choice([0, 0, 3, 30])),
            "exclude_seen": draw.random() < 0.3,
        }
        if draw.random() < 0.6:
            fields |= {
                "user_id": draw.choice(self._user_ids),
                "recent_item_ids": self._items(draw.choice([0, 0, 4])),
            }
        else:
            fields |= {
                "item_id": draw.choice(self.item_ids),
                "viewer_id": draw.choice(self._user_ids),
            }
        return pb.RetrieveRequest(**fields)

    def _items(self, count: int) -> list[str]:
        return self._random.choices(self.item_ids, k=count)

    def _unusual(self) -> Request:
        """Return a message with fields that are invalid, or just valid."""
        draw = self._random
        request = self._query()
        for _ in range(draw.randint(1, 3)):
            name = draw.choice([*request.DESCRIPTOR.fields_by_name])
            if name == "max_candidates":
                request.max_candidates = draw.choice(_ODD_NUMBERS)
            elif name == "exclude_seen":
                request.exclude_seen = True
            elif name in ("exclude_item_ids", "recent_item_ids"):
                many = draw.choice([1] * 300 + [1_000, 1_001, 10_000, 10_001])
                getattr(request, name).extend([draw.choice(_ODD_TEXTS)] * many)
            else:
                setattr(request, name, draw.choice(_ODD_TEXTS))
        if draw.random() < 0.1:
            count = draw.choice([0, 1, 2, 2, 2, 256, 257])
            batch = pb.BatchRetrieveRequest(requests=[request] * (count if count < 9 else 1))
            batch.requests.extend([pb.RetrieveRequest()] * (count - len(batch.requests)))
            return Request(BATCH, batch.SerializeToString())
        return Request(RETRIEVE, request.SerializeToString())

    def _mutated(self) -> Request:
        """Return a message with some of its bytes changed."""
        draw = self._random
        method, good = self._valid() if draw.random() < 0.8 else self._unusual()
        data = bytearray(good[:4096])
        for _ in range(draw.randint(1, 6)):
            place = draw.randrange(len(data) + 1)
            match draw.randrange(4):
                case 0:
                    data[place:place] = draw.choice(_ODD_BYTES)
                case 1:
                    del data[place : place + draw.randint(1, 4)]
                case 2:
                    data[place : place + 1] = draw.randbytes(1)
                case 3:
                    data[place:place] = data[: draw.randint(0, 40)]
        return Request(method, bytes(data))

    def _random_bytes(self) -> Request:
        method = self._random.choice([RETRIEVE, BATCH])
        return Request(method, self._random.randbytes(self._random.choice([0, 1, 7, 100, 5000])))
