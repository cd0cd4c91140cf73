"""Creates requests of all kinds, and checks the answers."""

import csv
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from google.rpc import code_pb2

from benchmarks.chaos.outcomes import OK
from query_service.load_test.requests import BATCH_RETRIEVE, RETRIEVE
from retrieval.v1 import retrieval_service_pb2 as pb
from serving_contract import ITEMS_CSV, SEEN_SQLITE
from tests.fuzz.service import read_seen

USER, USER_EXCLUDING_SEEN = "user", "user, seen items excluded"
_DISTINCT_USERS = 500
_K = 100
_MANY_EXCLUSIONS, _SOME_EXCLUSIONS = 300, 20
_ITEMS = 5_000

#: Takes a model version and an item id from its answer; returns the error, or an empty text.
CandidateCheck = Callable[[int, str], str]


class KnownIds:
    """Some user and item ids of the model that is published in ``models_dir``.

    Attributes:
        seen_store: the SQLite file with seen items.
        users: user ids.
        seen: for each of these users, the ids of the items that the user has seen.
        items: item ids.
    """

    def __init__(self, models_dir: Path) -> None:
        self.seen_store = models_dir / SEEN_SQLITE
        # Leaves out users who have seen very many items: their requests cost more than usual.
        self.seen = read_seen(self.seen_store)
        self.users = list(self.seen)
        with (models_dir / ITEMS_CSV).open(encoding="utf-8", newline="") as file:
            rows = itertools.islice(csv.DictReader(file), _ITEMS)
            self.items = [row["item_id"] for row in rows]


@dataclass(frozen=True)
class Request:
    """A serialised request and the answer that it must get.

    Attributes:
        kind: the kind of request, for reports.
        data: the serialised request.
        k: the number of candidates that the answer must have.
        excluded: the ids of items that must not be in the answer.
        code: the expected status.
        parts: the single requests of a batch; empty if the request is not a batch.
    """

    kind: str
    data: bytes
    k: int = _K
    excluded: frozenset[str] = frozenset()
    code: str = OK
    parts: tuple["Request", ...] = ()

    @property
    def method(self) -> str:
        """Return the path of the gRPC method."""
        return BATCH_RETRIEVE if self.parts else RETRIEVE


class Answer(NamedTuple):
    """The error in an answer, or an empty text, with the answer's origin and model version."""

    fault: str = ""
    origin: int = 0
    version: int = 0


def check_answer(request: Request, data: bytes, check: CandidateCheck | None = None) -> Answer:
    """Check every candidate in the serialised answer ``data``, whose status was OK."""
    if not request.parts:
        return _check(request, pb.RetrieveResponse.FromString(data), check)
    results = pb.BatchRetrieveResponse.FromString(data).results
    if len(results) != len(request.parts):
        return Answer(f"{len(results)} results for {len(request.parts)} requests")
    answer = Answer()
    for part, result in zip(request.parts, results, strict=True):
        if result.WhichOneof("result") == "error":
            code = code_pb2.Code.Name(result.error.code)
            if code != part.code:
                return Answer(f"{part.kind} in a batch: {code} ({result.error.message})")
            continue
        answer = _check(part, result.response, check)
        if answer.fault:
            break
    return answer


def _check(request: Request, answer: pb.RetrieveResponse, check: CandidateCheck | None) -> Answer:
    ids = [candidate.item_id for candidate in answer.candidates]
    excluded = request.excluded.intersection(ids)
    fault = ""
    if request.code != OK:
        fault = f"OK instead of {request.code}"
    elif len(ids) != request.k:
        fault = f"{len(ids)} candidates instead of {request.k}"
    elif len(set(ids)) != len(ids):
        fault = "a candidate appears twice"
    elif excluded:
        fault = f"{len(excluded)} excluded candidates"
    elif not answer.origin or answer.model_version < 1:
        fault = "origin or version is missing"
    elif check:
        fault = next(filter(None, (check(answer.model_version, item_id) for item_id in ids)), "")
    return Answer(fault, answer.origin, answer.model_version)


def for_users(known: KnownIds) -> list[Request]:
    """Return requests for users. A tenth has 300 exclusions, four tenths have 20, half has none."""
    draw = random.Random(0)
    requests = []
    for number, user in zip(range(_DISTINCT_USERS), itertools.cycle(known.users)):
        count = _MANY_EXCLUSIONS if number % 10 == 9 else _SOME_EXCLUSIONS * (number % 2)
        excluded = draw.sample(known.items, min(count, len(known.items) // 4))
        requests.append(_request(USER, excluded, user_id=user))
    return requests


def half_excluding_seen(known: KnownIds) -> list[Request]:
    """Return requests for users. Every second request excludes the items the user has seen."""
    seen = (_excluding_seen(known, user) for user in known.users)
    return [request for pair in zip(for_users(known), seen, strict=False) for request in pair]


def _excluding_seen(known: KnownIds, user: str) -> Request:
    excluded = known.seen[user]
    return _request(USER_EXCLUDING_SEEN, implied=excluded, user_id=user, exclude_seen=True)


def without_exclusions(known: KnownIds, count: int) -> list[bytes]:
    """Return serialised requests for ``count`` users."""
    return [request.data for request in for_users(known)[: 2 * count : 2]]


def mixed(known: KnownIds) -> list[Request]:
    """Return requests of all kinds, including invalid ones, for a service with the seen store."""
    draw = random.Random(1)
    items, users = known.items, known.users

    def draw_single() -> Request:
        user, item = draw.choice(users), draw.choice(items)
        share = draw.random()
        if share < 0.3:
            return _request(USER, user_id=user)
        if share < 0.45:
            recent = draw.sample(items, draw.randrange(1, 20))
            return _request("user and recent items", user_id=user, recent_item_ids=recent)
        if share < 0.6:
            return _excluding_seen(known, user)
        if share < 0.75:
            return _request("item", implied=frozenset({item}), item_id=item)
        if share < 0.9:
            excluded = draw.sample(items, draw.randrange(min(500, len(items) // 4)))
            return _request("user with exclusions", excluded, user_id=user)
        if share < 0.94:
            return _request("unknown user", user_id=f"nobody-{draw.random()}")
        if share < 0.97:
            return _request("unknown item", code="NOT_FOUND", item_id=f"nothing-{draw.random()}")
        return _request("invalid request", code="INVALID_ARGUMENT", k=-1, user_id=user)

    singles = [draw_single() for _ in range(2000)]
    batches = [_batch(draw.sample(singles, draw.randrange(1, 17))) for _ in range(100)]
    requests = singles + batches
    draw.shuffle(requests)
    return requests


def _request(
    kind: str,
    excluded: Sequence[str] = (),
    implied: frozenset[str] = frozenset(),
    code: str = OK,
    k: int = _K,
    **fields: object,
) -> Request:
    """Make a request that lists ``excluded``; the service must also exclude ``implied``."""
    message = pb.RetrieveRequest(max_candidates=k, exclude_item_ids=excluded, **fields)  # type: ignore[arg-type]
    return Request(kind, message.SerializeToString(), k, implied | set(excluded), code)


def _batch(parts: Sequence[Request]) -> Request:
    requests = (pb.RetrieveRequest.FromString(part.data) for part in parts)
    data = pb.BatchRetrieveRequest(requests=requests).SerializeToString()
    return Request("batch", data, parts=tuple(parts))
