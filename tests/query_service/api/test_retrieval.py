"""retrieval.v1.RetrievalService over a real socket: the rules and the statuses of the API."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from query_service.client import RetrievalClient
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import FakeModelServer, Service, write_seen
from tfserving_subset.v1 import prediction_pb2
from tools.waiting import until

Code = grpc.StatusCode
Request = pb.RetrieveRequest
LONG = "é" * 129  # 258 bytes


def _ids(answer: pb.RetrieveResponse) -> list[str]:
    return [candidate.item_id for candidate in answer.candidates]


def _failure(call: Callable[..., Any], request: Any, timeout: float = 10) -> Any:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=timeout)
    return raised.value


def _field(error: Any) -> str:
    [detail] = rpc_status.from_call(error).details
    bad = error_details_pb2.BadRequest()
    assert detail.Unpack(bad)
    return str(bad.field_violations[0].field)


def test_user_gets_the_best_candidates(service: Service, model_server: FakeModelServer) -> None:
    answer = service.stub.Retrieve(Request(user_id="u1", max_candidates=3))
    assert _ids(answer) == ["i0", "i1", "i2"]
    assert [candidate.score for candidate in answer.candidates] == [0, -1, -2]
    assert (answer.origin, answer.model_version) == (pb.ORIGIN_MODEL, 7)
    assert model_server.signatures[-1] == "by_user"


def test_default_number_of_candidates(
    serve: Callable[..., Service], model_server: FakeModelServer
) -> None:
    model_server.ranking = [f"i{n}" for n in range(500)]
    assert len(serve().stub.Retrieve(Request(user_id="u1")).candidates) == 100


def test_unavailable_model_server_is_reported(serve: Callable[..., Service]) -> None:
    service = serve(model_server="127.0.0.1:1")
    assert _failure(service.stub.Retrieve, Request(user_id="u1")).code() == Code.UNAVAILABLE
    assert service.health() == 2


def test_small_catalogue_is_returned_whole(service: Service) -> None:
    assert len(service.stub.Retrieve(Request(user_id="u1")).candidates) == 50


def test_seen_items_are_excluded(service: Service) -> None:
    answer = service.stub.Retrieve(Request(user_id="u1", max_candidates=3, exclude_seen=True))
    assert _ids(answer) == ["i1", "i3", "i5"]
    other = service.stub.Retrieve(Request(user_id="u2", max_candidates=3, exclude_seen=True))
    assert _ids(other) == ["i0", "i1", "i2"]


def test_similar_items_of_an_item(service: Service, model_server: FakeModelServer) -> None:
    answer = service.stub.Retrieve(Request(item_id="i1", max_candidates=3))
    assert _ids(answer) == ["i0", "i2", "i3"]
    assert model_server.signatures[-1] == "by_item"
    answer = service.stub.Retrieve(
        Request(item_id="i1", max_candidates=3, exclude_seen=True, viewer_id="u1")
    )
    assert _ids(answer) == ["i3", "i5", "i6"]


def test_tensor_content_is_decoded(service: Service, model_server: FakeModelServer) -> None:
    model_server.as_content = True
    model_server.ranking = ["é" * 128, "b" * 128, "c"]
    answer = service.stub.Retrieve(Request(user_id="u1"))
    assert _ids(answer) == model_server.ranking
    assert [candidate.score for candidate in answer.candidates] == [0, -1, -2]
    assert answer.origin == pb.ORIGIN_MODEL


# Only k items are fetched, so the duplicates of a faulty model server shorten the answer.
@pytest.mark.parametrize(("k", "candidates"), [(3, ["a", "b"]), (5, ["a", "b", "c"])])
def test_duplicates_of_the_model_server_are_dropped(
    service: Service, model_server: FakeModelServer, k: int, candidates: list[str]
) -> None:
    model_server.ranking = ["a", "a", "b", "a", "c"]
    assert _ids(service.stub.Retrieve(Request(user_id="u", max_candidates=k))) == candidates


def test_unknown_user_gets_popular_items_or_not_found(
    serve: Callable[..., Service], model_server: FakeModelServer
) -> None:
    model_server.known = False
    answer = serve().stub.Retrieve(Request(user_id="who", max_candidates=2))
    assert (_ids(answer), answer.origin) == (["i0", "i1"], pb.ORIGIN_POPULARITY)
    strict = serve(unknown_user="not-found")
    assert _failure(strict.stub.Retrieve, Request(user_id="who")).code() == Code.NOT_FOUND


def test_unknown_item_is_not_found(service: Service) -> None:
    error = _failure(service.stub.Retrieve, Request(item_id="nothing"))
    assert error.code() == Code.NOT_FOUND
    assert "'nothing'" in error.details()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "query"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": LONG}, "user_id"),
        ({"item_id": ""}, "item_id"),
        ({"item_id": LONG}, "item_id"),
        ({"user_id": "u", "max_candidates": -1}, "max_candidates"),
        ({"user_id": "u", "max_candidates": 1001}, "max_candidates"),
        ({"user_id": "u", "exclude_item_ids": ["x"] * 10_001}, "exclude_item_ids"),
        ({"user_id": "u", "exclude_item_ids": ["x", LONG]}, "exclude_item_ids[1]"),
        ({"user_id": "u", "viewer_id": "v"}, "viewer_id"),
        ({"item_id": "i1", "exclude_seen": True}, "viewer_id"),
        ({"item_id": "i1", "viewer_id": LONG}, "viewer_id"),
        ({"item_id": "i1", "recent_item_ids": ["i2"]}, "recent_item_ids"),
        ({"user_id": "u", "recent_item_ids": ["i2", ""]}, "recent_item_ids[1]"),
        ({"user_id": "u", "recent_item_ids": ["i2"] * 1001}, "recent_item_ids"),
    ],
)
def test_invalid_field_is_named(service: Service, fields: dict[str, Any], field: str) -> None:
    error = _failure(service.stub.Retrieve, Request(**fields))
    assert error.code() == Code.INVALID_ARGUMENT
    assert _field(error) == field


def test_malformed_message_is_an_invalid_argument(service: Service) -> None:
    raw: Any = service.channel.unary_unary("/retrieval.v1.RetrievalService/Retrieve")
    for data in (b"\xff\xff", b"\x0a\x02\xc3\x28"):  # Garbage; a user_id that is not UTF-8.
        error = _failure(raw, data)
        assert error.code() == Code.INVALID_ARGUMENT
        assert _field(error) == "request"


@pytest.mark.parametrize(
    ("upstream", "code"),
    [
        (Code.UNAVAILABLE, Code.UNAVAILABLE),
        (Code.NOT_FOUND, Code.UNAVAILABLE),
        (Code.FAILED_PRECONDITION, Code.UNAVAILABLE),
        (Code.RESOURCE_EXHAUSTED, Code.RESOURCE_EXHAUSTED),
        (Code.DEADLINE_EXCEEDED, Code.DEADLINE_EXCEEDED),
        (Code.INVALID_ARGUMENT, Code.INTERNAL),
    ],
)
def test_status_of_the_model_server_is_translated(
    service: Service, model_server: FakeModelServer, upstream: Code, code: Code
) -> None:
    model_server.error = (upstream, "set by the test")
    assert _failure(service.stub.Retrieve, Request(user_id="u")).code() == code
    [result] = service.stub.BatchRetrieve(
        pb.BatchRetrieveRequest(requests=[Request(user_id="u")])
    ).results
    assert result.error.code == code.value[0]


def _no_scores(response: prediction_pb2.PredictResponse) -> None:
    del response.outputs["score"]


def _missing_item(response: prediction_pb2.PredictResponse) -> None:
    del response.outputs["item_id"].string_val[-1]


def _missing_dimension(response: prediction_pb2.PredictResponse) -> None:
    del response.outputs["item_id"].tensor_shape.dim[1]


def _wrong_score_size(response: prediction_pb2.PredictResponse) -> None:
    response.outputs["score"].tensor_content = b"123"


def _wrong_text_lengths(response: prediction_pb2.PredictResponse) -> None:
    response.outputs["item_id"].tensor_content = b"\x01\x01abc"


def _truncated_texts(response: prediction_pb2.PredictResponse) -> None:
    response.outputs["item_id"].tensor_content = b"\x80"


def _nan(response: prediction_pb2.PredictResponse) -> None:
    response.outputs["score"].float_val[1] = float("nan")


def _not_text(response: prediction_pb2.PredictResponse) -> None:
    response.outputs["item_id"].string_val[0] = b"\xff"


@pytest.mark.parametrize(
    "break_answer",
    [
        _no_scores,
        _missing_item,
        _missing_dimension,
        _wrong_score_size,
        _wrong_text_lengths,
        _truncated_texts,
        _nan,
        _not_text,
    ],
)
def test_answer_that_breaks_the_contract_is_internal(
    service: Service, model_server: FakeModelServer, break_answer: Any
) -> None:
    model_server.spoil = break_answer
    error = _failure(service.stub.Retrieve, Request(user_id="u", max_candidates=3))
    assert (error.code(), error.details()) == (Code.INTERNAL, "internal error")


def test_deadline_is_passed_to_the_model_server(
    service: Service, model_server: FakeModelServer
) -> None:
    service.stub.Retrieve(Request(user_id="u"), timeout=2)
    assert model_server.remaining_s[-1] < 2.1, "gRPC rounds timeouts up on the wire"
    service.stub.Retrieve(Request(user_id="u"))
    assert 3 < model_server.remaining_s[-1] < 5.1, "expected the service's own limit"
    model_server.delay_s = 0.5
    began = time.monotonic()
    error = _failure(service.stub.Retrieve, Request(user_id="u"), timeout=0.1)
    assert error.code() == Code.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 0.5


def test_request_ends_at_the_service_timeout(
    serve: Callable[..., Service], model_server: FakeModelServer
) -> None:
    model_server.delay_s = 0.5
    service = serve(timeout_s=0.1)
    assert _failure(service.stub.Retrieve, Request(user_id="u")).code() == Code.DEADLINE_EXCEEDED


def test_requests_over_the_limit_are_refused(
    serve: Callable[..., Service], model_server: FakeModelServer
) -> None:
    model_server.delay_s = 0.3
    service = serve(max_concurrent_requests=2)
    calls = [service.stub.Retrieve.future(Request(user_id="u"), timeout=10) for _ in range(6)]
    codes = [call.code() for call in calls]
    assert codes.count(Code.OK) == 2
    assert codes.count(Code.RESOURCE_EXHAUSTED) == 4
    assert service.stub.Retrieve(Request(user_id="u")).model_version == 7, (
        "finished requests must free their slots"
    )


def test_unavailable_seen_store_fails_only_requests_that_need_it(
    serve: Callable[..., Service], seen_path: Path, tmp_path: Path
) -> None:
    seen = Request(user_id="u1", max_candidates=2, exclude_seen=True)
    for store in ("none", f"sqlite:{tmp_path / 'absent'}"):
        service = serve(seen_store=store)
        assert _failure(service.stub.Retrieve, seen).code() == Code.UNAVAILABLE
        assert _ids(service.stub.Retrieve(Request(user_id="u1", max_candidates=1))) == ["i0"]
    service = serve(seen_store=f"sqlite:{seen_path}")
    seen_path.write_bytes(b"not a database, and long enough to be taken for one" * 50)
    assert _failure(service.stub.Retrieve, seen).code() == Code.UNAVAILABLE
    # A file put in its place is used from then on.
    write_seen(seen_path, {"u1": ["i0", "i1"]})
    assert _ids(service.stub.Retrieve(seen)) == ["i2", "i3"]
    write_seen(seen_path, {"u1": ["i2"]})
    assert _ids(service.stub.Retrieve(seen)) == ["i0", "i1"]


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    catalogue=st.integers(1, 400),
    k=st.integers(1, 60),
    excluded=st.sets(st.integers(0, 420), max_size=300),
    seen=st.sets(st.integers(0, 420), max_size=100),
    kind=st.sampled_from(["user", "user and recent", "item"]),
    recent=st.lists(st.integers(0, 420), min_size=1, max_size=30),
)
def test_exclusion_is_exact(
    service: Service,
    model_server: FakeModelServer,
    seen_path: Path,
    catalogue: int,
    k: int,
    excluded: set[int],
    seen: set[int],
    kind: str,
    recent: list[int],
) -> None:
    model_server.ranking = [f"i{n}" for n in range(catalogue)]
    write_seen(seen_path, {"u1": [f"i{n}" for n in seen]})
    queries: dict[str, dict[str, Any]] = {
        "user": {"user_id": "u1"},
        "user and recent": {"user_id": "u1", "recent_item_ids": [f"i{n}" for n in recent]},
        "item": {"item_id": "i0", "viewer_id": "u1"},
    }
    left_out = excluded | seen | {"user": set(), "user and recent": set(recent), "item": {0}}[kind]
    request = Request(
        max_candidates=k,
        exclude_seen=True,
        exclude_item_ids=[f"i{n}" for n in excluded],
        **queries[kind],
    )
    left = [f"i{n}" for n in range(catalogue) if n not in left_out]
    assert _ids(service.stub.Retrieve(request)) == left[:k]


def test_10_000_exclusions_take_three_fetches(
    service: Service, model_server: FakeModelServer
) -> None:
    model_server.ranking = [f"i{n}" for n in range(12_000)]
    model_server.depths.clear()
    request = Request(
        user_id="u", max_candidates=100, exclude_item_ids=[f"i{n}" for n in range(10_000)]
    )
    assert _ids(service.stub.Retrieve(request)) == [f"i{n}" for n in range(10_000, 10_100)]
    assert [one for [one] in model_server.depths] == [300, 8192, 10_100]


def test_batch_answers_each_request_by_itself(
    service: Service, model_server: FakeModelServer
) -> None:
    model_server.depths.clear()
    answer = service.stub.BatchRetrieve(
        pb.BatchRetrieveRequest(
            requests=[
                Request(user_id="u1", max_candidates=1, exclude_seen=True),
                Request(),
                Request(item_id="nothing"),
                Request(item_id="i3", max_candidates=2),
                Request(user_id="u2", max_candidates=2),
                Request(user_id="u3", max_candidates=2),
            ]
        )
    )
    outcomes = [
        _ids(result.response) if result.HasField("response") else result.error.code
        for result in answer.results
    ]
    assert outcomes == [["i1"], 3, 5, ["i0", "i1"], ["i0", "i1"], ["i0", "i1"]]
    # One Predict for the items, one for the users, one for the user whose items were read first.
    assert sorted(model_server.depths) == [[2, 2], [4], [101, 3]]
    bad = error_details_pb2.BadRequest()
    assert answer.results[1].error.details[0].Unpack(bad)
    assert bad.field_violations[0].field == "query"


@pytest.mark.parametrize("count", [0, 257])
def test_batch_size_is_limited(service: Service, count: int) -> None:
    batch = pb.BatchRetrieveRequest(requests=[Request(user_id="u")] * count)
    error = _failure(service.stub.BatchRetrieve, batch)
    assert (error.code(), _field(error)) == (Code.INVALID_ARGUMENT, "requests")


def test_health_follows_the_model(service: Service, model_server: FakeModelServer) -> None:
    name = "retrieval.v1.RetrievalService"
    assert service.health() == service.health(name) == 1
    model_server.state = prediction_pb2.ModelVersionStatus.LOADING
    until(lambda: service.health() == service.health(name) == 2)
    model_server.state = prediction_pb2.ModelVersionStatus.AVAILABLE
    until(lambda: service.health() == 1)
    model_server.error = (Code.UNAVAILABLE, "gone")
    until(lambda: service.health() == 2)


def test_reflection_lists_the_services(service: Service) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = stub.ServerReflectionInfo(iter([request]))
    names = {one.name for one in answer.list_services_response.service}
    assert {"retrieval.v1.RetrievalService", "grpc.health.v1.Health"} <= names


def test_2_000_mutated_requests_end_with_a_documented_status(
    service: Service, model_server: FakeModelServer
) -> None:
    source = random.Random(11)
    methods: list[Any] = [
        service.channel.unary_unary(f"/retrieval.v1.RetrievalService/{name}")
        for name in ("Retrieve", "BatchRetrieve")
    ]
    seeds = [
        Request(user_id="u1", max_candidates=5, exclude_seen=True, exclude_item_ids=["i0"]),
        Request(item_id="i1", viewer_id="u1", exclude_seen=True),
        Request(user_id="u", max_candidates=2**31 - 1),
        Request(user_id="u", recent_item_ids=["i1", "i2"], exclude_seen=True),
        Request(user_id="\0\n'; DROP TABLE seen; --", exclude_seen=True, max_candidates=-(2**31)),
        pb.BatchRetrieveRequest(
            requests=[
                Request(user_id="u1"),
                Request(item_id="i1"),
                Request(user_id="u1", recent_item_ids=["i1", "new"]),
            ]
        ),
    ]
    codes: dict[Code, int] = {}
    for _ in range(2000):
        data = bytearray(source.choice(seeds).SerializeToString())
        for _ in range(source.randint(0, 8)):
            action, place = source.randrange(3), source.randrange(len(data) + 1)
            if action == 0:
                data[place:place] = source.randbytes(source.randint(1, 4))
            elif action == 1:
                del data[place : place + source.randint(1, 4)]
            elif place < len(data):
                data[place] = source.randrange(256)
        code = source.choice(methods).future(bytes(data), timeout=10).code()
        codes[code] = codes.get(code, 0) + 1
    assert sum(codes.values()) == 2000
    assert set(codes) <= {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND}, codes
    assert codes[Code.OK] > 100
    assert codes[Code.INVALID_ARGUMENT] > 100
    assert model_server.signatures.count("by_user_and_history") > 30


def test_client_returns_plain_values(service: Service) -> None:
    with RetrievalClient(service.address) as client:
        answer = client.for_user("u1", 2, exclude_seen=True, exclude=["i1"])
        assert [candidate.item_id for candidate in answer.candidates] == ["i3", "i5"]
        assert (answer.personal, answer.model_version) == (True, 7)
        similar = client.for_item("i1", 2, viewer_id="u1")
        assert [candidate.item_id for candidate in similar.candidates] == ["i3", "i5"]
