"""Turns a request into a query, or raises an error that names the invalid field."""

from collections.abc import Sequence
from dataclasses import dataclass

from query_service.core.query import Query, QueryKind
from query_service.errors import InvalidRequest
from retrieval.v1 import retrieval_service_pb2 as pb
from serving_contract import MAX_ID_BYTES

MAX_EXCLUSIONS = 10_000
MAX_RECENT_ITEMS = 1_000
MAX_BATCH = 256
MAX_INTERACTIONS = 1_000
#: An id of up to this many characters is never too long, because a character has at most four bytes
#: in UTF-8.
_SHORT_LENGTH = MAX_ID_BYTES // 4


@dataclass(frozen=True)
class Limits:
    """The default and the maximum number of candidates per request."""

    default_candidates: int = 100
    max_candidates: int = 1000


def query(request: pb.RetrieveRequest, limits: Limits) -> Query:
    """Return the query that a request asks for.

    Raises:
        InvalidRequest: A field breaks a rule. The error names the first such field.
    """
    field = request.WhichOneof("query")
    if field is None:
        raise InvalidRequest("query", "user_id or item_id must be set")
    query_id: str = getattr(request, field)
    check_id(field, query_id)
    k = request.max_candidates
    if not 0 <= k <= limits.max_candidates:
        raise InvalidRequest("max_candidates", f"must be 0 to {limits.max_candidates}, not {k}")
    excluded: Sequence[str] = request.exclude_item_ids
    if excluded:
        _check_count("exclude_item_ids", excluded, MAX_EXCLUSIONS)
        excluded = list(excluded)
        _check_ids("exclude_item_ids", excluded, empty_allowed=True)
    recent = request.recent_item_ids
    if field == "user_id":
        _check_user_query(request)
        kind, viewer_id = QueryKind.USER_AND_RECENT if recent else QueryKind.USER, query_id
    else:
        _check_item_query(request)
        kind, viewer_id = QueryKind.ITEM, request.viewer_id
    return Query(
        kind=kind,
        id=query_id,
        max_candidates=k or limits.default_candidates,
        recent=_last_occurrences(recent) if recent else (),
        excluded=set(map(str.encode, excluded)),
        exclude_seen_by=viewer_id if request.exclude_seen else None,
    )


def _check_user_query(request: pb.RetrieveRequest) -> None:
    if request.viewer_id:
        raise InvalidRequest("viewer_id", "must not be set for a user query")
    if request.recent_item_ids:
        _check_count("recent_item_ids", request.recent_item_ids, MAX_RECENT_ITEMS)
        _check_ids("recent_item_ids", request.recent_item_ids)


def _check_item_query(request: pb.RetrieveRequest) -> None:
    if request.recent_item_ids:
        raise InvalidRequest("recent_item_ids", "must not be set for an item query")
    if request.viewer_id:
        check_id("viewer_id", request.viewer_id)
    elif request.exclude_seen:
        raise InvalidRequest("viewer_id", "must be set if exclude_seen is set")


def check_batch(request: pb.BatchRetrieveRequest) -> None:
    """Raise InvalidRequest unless there are 1 to 256 requests."""
    if not 1 <= len(request.requests) <= MAX_BATCH:
        count = len(request.requests)
        raise InvalidRequest("requests", f"must have 1 to {MAX_BATCH} entries, not {count}")


def _last_occurrences(ids: Sequence[str]) -> tuple[str, ...]:
    """Return the ids without duplicates, in the order of their last occurrences."""
    return tuple(dict.fromkeys(reversed(ids)))[::-1]


def _check_count(field: str, ids: Sequence[str], limit: int) -> None:
    """Check the number of ids before they are copied, because a message can have millions."""
    if len(ids) > limit:
        raise InvalidRequest(field, f"must have at most {limit} ids, not {len(ids)}")


def _check_ids(field: str, ids: Sequence[str], *, empty_allowed: bool = False) -> None:
    # Nearly all requests have short ids only, which this checks quickly.
    if max(map(len, ids)) <= _SHORT_LENGTH and (empty_allowed or all(ids)):
        return
    for position, value in enumerate(ids):
        if value or not empty_allowed:
            check_id(f"{field}[{position}]", value)


def check_id(field: str, value: str) -> None:
    """Raise InvalidRequest unless the id has 1 to 256 bytes."""
    if 0 < len(value) <= _SHORT_LENGTH:
        return
    if not 0 < len(value.encode()) <= MAX_ID_BYTES:
        raise InvalidRequest(field, f"must have 1 to {MAX_ID_BYTES} bytes of UTF-8")
