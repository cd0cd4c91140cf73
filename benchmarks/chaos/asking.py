"""Requests of every kind, and what is wrong with an answer."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from google.rpc import code_pb2

from benchmarks.chaos.catalogue import Catalogue
from benchmarks.chaos.outcomes import OK
from retrieval.v1 import retrieval_service_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["RetrievalService"].full_name
RETRIEVE, BATCH_RETRIEVE = f"/{_SERVICE}/Retrieve", f"/{_SERVICE}/BatchRetrieve"

PLAIN, SEEN = "user", "user without the seen"
_DISTINCT = 500
_K = 100
_MANY = 300

Judge = Callable[[int, str], str]


@dataclass(frozen=True)
class Asked:
    """A request, and what its answer has to be.

    Attributes:
        kind: in a word.
        data: its bytes.
        k: how many candidates have to come.
        unwanted: ids of items that must not.
        code: the status that it has to end with where nothing is harmed.
        parts: of a batch.
    """

    kind: str
    data: bytes
    k: int = _K
    unwanted: frozenset[str] = frozenset()
    code: str = OK
    parts: tuple["Asked", ...] = ()

    @property
    def method(self) -> str:
        """The path of the method."""
        return BATCH_RETRIEVE if self.parts else RETRIEVE


@dataclass(frozen=True)
class Seen:
    """What an answer says of itself, and what is wrong with it."""

    origin: int = 0
    version: int = 0
    fault: str = ""


def looked_at(asked: Asked, data: bytes, judge: Judge | None = None) -> Seen:
    """Look at every candidate of an OK answer.

    ``judge`` says of a version and an item what is wrong with them together.
    """
    if not asked.parts:
        return _looked_at(asked, pb.RetrieveResponse.FromString(data), judge)
    results = pb.BatchRetrieveResponse.FromString(data).results
    if len(results) != len(asked.parts):
        return Seen(fault=f"{len(results)} results for {len(asked.parts)} requests")
    seen = Seen()
    for part, result in zip(asked.parts, results, strict=True):
        if result.WhichOneof("result") == "error":
            code = code_pb2.Code.Name(result.error.code)
            if code != part.code:
                return Seen(fault=f"{part.kind} in a batch: {code} ({result.error.message})")
            continue
        seen = _looked_at(part, result.response, judge)
        if seen.fault:
            return seen
    return seen


def _looked_at(asked: Asked, answer: pb.RetrieveResponse, judge: Judge | None) -> Seen:
    ids = [one.item_id for one in answer.candidates]
    distinct = set(ids)
    fault = ""
    if asked.code != OK:
        fault = f"OK instead of {asked.code}"
    elif len(ids) != asked.k:
        fault = f"{len(ids)} candidates instead of {asked.k}"
    elif len(distinct) != len(ids):
        fault = "a candidate twice"
    elif distinct & asked.unwanted:
        fault = f"{len(distinct & asked.unwanted)} candidates that were to be left out"
    elif not answer.origin or answer.model_version < 1:
        fault = "no origin or no version"
    elif judge:
        fault = next(filter(None, (judge(answer.model_version, one) for one in ids)), "")
    return Seen(answer.origin, answer.model_version, fault)


def users(catalogue: Catalogue) -> list[Asked]:
    """For users; every second with some exclusions, every tenth with many."""
    draw = random.Random(0)
    asked = []
    for number, user in zip(range(_DISTINCT), itertools.cycle(catalogue.users)):
        most = _MANY if number % 10 == 9 else 20 * (number % 2)
        excluded = draw.sample(catalogue.items, min(most, len(catalogue.items) // 4))
        asked.append(_request(PLAIN, excluded, user_id=user))
    return asked


def unseen(catalogue: Catalogue) -> list[Asked]:
    """For users, without what they have seen."""
    return [
        _request(SEEN, unwanted=catalogue.seen[user], user_id=user, exclude_seen=True)
        for user in catalogue.users
    ]


def bodies(catalogue: Catalogue, count: int) -> list[bytes]:
    """Plain requests for so many users."""
    return [one.data for one in users(catalogue)[: 2 * count : 2]]


def mixed(catalogue: Catalogue) -> list[Asked]:
    """All that callers do, the wrong included; the seen store has to be the catalogue's."""
    draw = random.Random(1)
    items, known = catalogue.items, catalogue.users

    def one() -> Asked:
        user, item = draw.choice(known), draw.choice(items)
        turn = draw.random()
        if turn < 0.3:
            return _request(PLAIN, user_id=user)
        if turn < 0.45:
            recent = draw.sample(items, draw.randrange(1, 20))
            return _request("user and recent items", user_id=user, recent_item_ids=recent)
        if turn < 0.6:
            seen = catalogue.seen[user]
            return _request(SEEN, unwanted=seen, user_id=user, exclude_seen=True)
        if turn < 0.75:
            return _request("item", unwanted=frozenset({item}), item_id=item)
        if turn < 0.9:
            excluded = draw.sample(items, draw.randrange(min(500, len(items) // 4)))
            return _request("user with exclusions", excluded, user_id=user)
        if turn < 0.94:
            return _request("unknown user", user_id=f"nobody-{draw.random()}")
        if turn < 0.97:
            return _request("unknown item", code="NOT_FOUND", item_id=f"nothing-{draw.random()}")
        return _request("bad request", code="INVALID_ARGUMENT", k=-1, user_id=user)

    singles = [one() for _ in range(2000)]
    batches = [_batch(draw.sample(singles, draw.randrange(1, 17))) for _ in range(100)]
    every = singles + batches
    draw.shuffle(every)
    return every


def _request(
    kind: str,
    excluded: Sequence[str] = (),
    unwanted: frozenset[str] = frozenset(),
    code: str = OK,
    k: int = _K,
    **fields: object,
) -> Asked:
    request = pb.RetrieveRequest(max_candidates=k, exclude_item_ids=excluded, **fields)  # type: ignore[arg-type]
    return Asked(kind, request.SerializeToString(), k, unwanted | set(excluded), code)


def _batch(parts: Sequence[Asked]) -> Asked:
    requests = (pb.RetrieveRequest.FromString(one.data) for one in parts)
    data = pb.BatchRetrieveRequest(requests=requests).SerializeToString()
    return Asked("batch", data, parts=tuple(parts))


def in_turn(*kinds: Sequence[Asked]) -> Iterator[Asked]:
    """One of each kind after the other, over and over."""
    yield from itertools.chain.from_iterable(zip(*map(itertools.cycle, kinds), strict=True))
