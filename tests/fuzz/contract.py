"""The rules that every response of the service has to keep, whatever the request."""

import math
from collections.abc import Callable, Set
from itertools import pairwise
from typing import Any

from google.protobuf.message import DecodeError

from retrieval.v1 import retrieval_service_pb2 as pb

RETRIEVE, BATCH = "Retrieve", "BatchRetrieve"
MAX_CANDIDATES, DEFAULT_CANDIDATES = 1000, 100

_TYPES: dict[str, tuple[Any, Any]] = {
    RETRIEVE: (pb.RetrieveRequest, pb.RetrieveResponse),
    BATCH: (pb.BatchRetrieveRequest, pb.BatchRetrieveResponse),
}


class Violation(AssertionError):
    """A fuzz target did something that it must never do."""


#: Returns the items that a user has seen.
Seen = Callable[[str], Set[str]]


def violations(method: str, data: bytes, answer: bytes, seen: Seen | None = None) -> list[str]:
    """Return the rules that an OK response to a request breaks.

    Args:
        method: RETRIEVE or BATCH.
        data: the serialized request.
        answer: the serialized response.
        seen: without it, exclude_seen is not checked.
    """
    request_type, response_type = _TYPES[method]
    try:
        asked = request_type.FromString(data)
    except DecodeError:
        return ["OK to bytes that are not a message"]
    try:
        answered = response_type.FromString(answer)
    except DecodeError:
        return ["a response that is not a message"]
    if method == RETRIEVE:
        return _violations_of(asked, answered, seen)
    requests, results = asked.requests, answered.results
    if len(results) != len(requests):
        return [f"{len(results)} results for {len(requests)} requests"]
    found = []
    for request, result in zip(requests, results, strict=True):
        if result.HasField("response"):
            found += _violations_of(request, result.response, seen)
        elif result.error.code in (0, 2, 13):
            found.append(f"error {result.error.code} in a batch")
    return found


def _violations_of(
    request: pb.RetrieveRequest, response: pb.RetrieveResponse, seen: Seen | None
) -> list[str]:
    ids = [one.item_id for one in response.candidates]
    scores = [one.score for one in response.candidates]
    viewer = request.user_id or request.viewer_id
    unwanted = {
        "an excluded item": set(request.exclude_item_ids),
        "the query item": {request.item_id} - {""},
        "an empty item id": {""},
        "a seen item": set(seen(viewer)) if seen and request.exclude_seen else set(),
        "a recent item": set(request.recent_item_ids) if request.exclude_seen else set(),
    }
    found = [rule for rule, items in unwanted.items() if not items.isdisjoint(ids)]
    rules = {
        "answered without a query": request.WhichOneof("query") is None,
        "answered with a wrong max_candidates": not 0 <= request.max_candidates <= MAX_CANDIDATES,
        "more than max_candidates": len(ids) > (request.max_candidates or DEFAULT_CANDIDATES),
        "a duplicate": len(set(ids)) < len(ids),
        "not sorted by score": any(not one >= after for one, after in pairwise(scores)),
        "a score that is not a number": any(map(math.isnan, scores)),
        "no origin": response.origin == pb.ORIGIN_UNSPECIFIED,
        "no version": response.model_version < 1,
    }
    return found + [rule for rule, broken in rules.items() if broken]
