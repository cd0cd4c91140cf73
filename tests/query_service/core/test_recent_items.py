"""Recent items of a request select the signature, and count as seen."""

import time
from collections.abc import Callable

import grpc
import pytest

from query_service.client import RetrievalClient
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.query_service.conftest import FakeModelServer, Service
from tfserving_subset.v1 import prediction_pb2

BY_BOTH = "by_user_and_history"


def _ask(service: Service, recent: list[str], **fields: object) -> pb.RetrieveResponse:
    request = pb.RetrieveRequest(
        **{"user_id": "u1", "max_candidates": 3, "recent_item_ids": recent, **fields}  # type: ignore[arg-type]
    )
    response: pb.RetrieveResponse = service.stub.Retrieve(request, timeout=10)
    return response


def _ids(answer: pb.RetrieveResponse) -> list[str]:
    return [candidate.item_id for candidate in answer.candidates]


def test_recent_items_are_sent_with_the_user(
    service: Service, model_server: FakeModelServer
) -> None:
    answer = _ask(service, ["i7", "new", "é"])
    assert model_server.signatures == [BY_BOTH]
    assert model_server.histories == [[["i7", "new", "é"]]], "in the order given"
    assert _ids(answer) == ["i0", "i1", "i2"]
    assert (answer.origin, answer.model_version) == (pb.ORIGIN_MODEL, 7)


def test_without_recent_items_the_user_alone_is_sent(
    service: Service, model_server: FakeModelServer
) -> None:
    _ask(service, [])
    assert (model_server.signatures, model_server.histories) == (["by_user"], [])


def test_last_occurrence_of_a_duplicate_counts(
    service: Service, model_server: FakeModelServer
) -> None:
    _ask(service, ["i1", "i2", "i1", "i3", "i3"])
    assert model_server.histories == [[["i2", "i1", "i3"]]]


def test_unknown_user_with_a_known_item_is_known(
    serve: Callable[..., Service], model_server: FakeModelServer
) -> None:
    model_server.known = False
    for service in (serve(), serve(unknown_user="not-found")):
        assert _ask(service, ["new", "i4"]).origin == pb.ORIGIN_MODEL


def test_unknown_user_with_unknown_items_is_unknown(
    serve: Callable[..., Service], model_server: FakeModelServer
) -> None:
    model_server.known = False
    answer = _ask(serve(), ["new", "newer"])
    assert (_ids(answer), answer.origin) == (["i0", "i1", "i2"], pb.ORIGIN_POPULARITY)
    with pytest.raises(grpc.RpcError) as raised:
        _ask(serve(unknown_user="not-found"), ["new", "newer"])
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    assert raised.value.details() == (
        "the model does not know user 'u1', nor any of the recent items"
    )


def test_recent_items_count_as_seen(service: Service) -> None:
    assert _ids(_ask(service, ["i1", "i3"])) == ["i0", "i1", "i2"]
    # u1 has seen i0, i2 and i4.
    assert _ids(_ask(service, ["i1", "i3"], exclude_seen=True)) == ["i5", "i6", "i7"]
    assert _ids(_ask(service, ["i1"], user_id="u2", exclude_seen=True)) == ["i0", "i2", "i3"]


def test_a_thousand_recent_items_are_excluded(
    service: Service, model_server: FakeModelServer
) -> None:
    model_server.ranking = [f"i{n}" for n in range(1500)]
    recent = [f"i{n}" for n in range(1000)]
    answer = _ask(service, recent, user_id="u2", exclude_seen=True)
    assert _ids(answer) == ["i1000", "i1001", "i1002"]
    assert [one for [one] in model_server.depths] == [106, 1003]
    assert model_server.signatures == [BY_BOTH] * 2


def test_batch_sends_one_predict_per_kind(service: Service, model_server: FakeModelServer) -> None:
    def user(name: str, *recent: str) -> pb.RetrieveRequest:
        return pb.RetrieveRequest(user_id=name, max_candidates=2, recent_item_ids=recent)

    answer = service.stub.BatchRetrieve(
        pb.BatchRetrieveRequest(
            requests=[
                user("u1", "i5"),
                user("u1"),
                user("u1", ""),
                pb.RetrieveRequest(item_id="i0", max_candidates=2),
                user("u2", "i6", "i7", "i8"),
                user("u3", "i9", "i9"),
            ]
        )
    )
    outcomes = [
        _ids(result.response) if result.HasField("response") else result.error.code
        for result in answer.results
    ]
    users = ["i0", "i1"]
    assert outcomes == [users, users, 3, ["i1", "i2"], users, users]
    assert sorted(model_server.signatures) == ["by_item", "by_user", BY_BOTH]
    assert model_server.histories == [[["i5", "", ""], ["i6", "i7", "i8"], ["i9", "", ""]]]


def test_errors_and_deadlines_are_the_same_as_without_recent_items(
    service: Service, model_server: FakeModelServer
) -> None:
    def failure(timeout: float = 10) -> grpc.StatusCode:
        request = pb.RetrieveRequest(user_id="u1", recent_item_ids=["i1"])
        with pytest.raises(grpc.RpcError) as raised:
            service.stub.Retrieve(request, timeout=timeout)
        code: grpc.StatusCode = raised.value.code()
        return code

    code = grpc.StatusCode
    for upstream, ours in (
        (code.UNAVAILABLE, code.UNAVAILABLE),
        (code.FAILED_PRECONDITION, code.UNAVAILABLE),
        (code.RESOURCE_EXHAUSTED, code.RESOURCE_EXHAUSTED),
        (code.INVALID_ARGUMENT, code.INTERNAL),
    ):
        model_server.error = (upstream, f"Tensors with name '{BY_BOTH}_history:0' differ")
        assert failure() == ours
    assert set(model_server.signatures) == {BY_BOTH}, "only a missing signature has a replacement"
    model_server.error = None
    model_server.delay_s = 0.5
    assert failure(timeout=0.1) == code.DEADLINE_EXCEEDED


def test_older_model_answers_without_recent_items(
    service: Service, model_server: FakeModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    model_server.versions_without_history = {7}
    for _ in range(5):
        answer = _ask(service, ["i1"], exclude_seen=True)
        assert _ids(answer) == ["i3", "i5", "i6"], "recent items still count as seen"
        assert (answer.origin, answer.model_version) == (pb.ORIGIN_MODEL, 7)
    assert model_server.signatures == [BY_BOTH, *["by_user"] * 5], (
        "the missing signature is tried once"
    )
    assert caplog.text.count("version 7 of model retrieval has no signature") == 1


def test_missing_signature_is_remembered_per_version(
    service: Service, model_server: FakeModelServer
) -> None:
    model_server.versions_without_history = {7}
    _ask(service, ["i1"])
    model_server.version = 8
    # A response, or the health check, tells of the new version.
    _ask(service, [])
    model_server.signatures.clear()
    assert _ask(service, ["i1"]).model_version == 8
    assert model_server.signatures == [BY_BOTH]
    # After a rollback, the old version is still known to lack the signature.
    model_server.version = 7
    _ask(service, [])
    model_server.signatures.clear()
    assert _ask(service, ["i1"]).model_version == 7
    assert model_server.signatures == ["by_user"]


def test_refusal_during_a_promotion_does_not_count_against_the_new_version(
    service: Service, model_server: FakeModelServer
) -> None:
    model_server.versions_without_history = {7}

    def swap(_response: prediction_pb2.PredictResponse) -> None:
        model_server.spoil = None
        model_server.version = _response.model_spec.version.value = 8

    # Version 7 refuses, and version 8 replaces it before the second Predict.
    model_server.spoil = swap
    assert _ask(service, ["i1"]).model_version == 8
    model_server.signatures.clear()
    _ask(service, ["i1"])
    assert model_server.signatures == [BY_BOTH]


def test_refusal_after_a_rollback_does_not_count_against_the_newer_version(
    service: Service, model_server: FakeModelServer
) -> None:
    model_server.versions_without_history = {7}
    model_server.version = 8
    _ask(service, [])
    # Version 8 was the last one known; version 7 refuses and then answers.
    model_server.version = 7
    assert _ask(service, ["i1"]).model_version == 7
    model_server.version = 8
    _ask(service, [])
    model_server.signatures.clear()
    _ask(service, ["i1"])
    assert model_server.signatures == [BY_BOTH]


def test_missing_signature_is_forgotten_when_the_server_restarts(
    service: Service, model_server: FakeModelServer
) -> None:
    model_server.versions_without_history = {7}
    _ask(service, ["i1"])
    model_server.error = (grpc.StatusCode.UNAVAILABLE, "gone")
    deadline = time.monotonic() + 10
    while service.health() == 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    model_server.error, model_server.versions_without_history = None, set()
    model_server.signatures.clear()
    _ask(service, ["i1"])
    assert model_server.signatures == [BY_BOTH]


def test_client_sends_recent_items(service: Service, model_server: FakeModelServer) -> None:
    with RetrievalClient(service.address) as client:
        answer = client.for_user("u1", 2, recent=["i1", "i3"], exclude_seen=True)
    assert [candidate.item_id for candidate in answer.candidates] == ["i5", "i6"]
    assert model_server.histories == [[["i1", "i3"]]]
