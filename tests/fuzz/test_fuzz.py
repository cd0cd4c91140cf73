"""Short runs of every fuzz target, and proof that the fuzzers detect bugs."""

import importlib
import sys
from typing import Any

import grpc
import pytest

from query_service.api import encoding
from query_service.backend import tensors
from query_service.core import retriever
from query_service.core.query import RankedItems
from retrieval.v1 import retrieval_service_pb2 as pb
from tests.fuzz import guided
from tests.fuzz.contract import BATCH, RETRIEVE, Violation, violations
from tests.fuzz.predict import PredictAnswers, valid_response
from tests.fuzz.request_path import RequestPath
from tests.fuzz.requests import Request, RequestMaker
from tests.fuzz.service import Tally
from tests.skips import applies_if


@applies_if(
    sys.platform == "linux" and sys.version_info < (3, 13), "Atheris (Linux, Python before 3.13)"
)
@pytest.mark.parametrize("target", guided.TARGETS)
def test_short_run_finds_no_failure(target: str) -> None:
    result = guided.fuzz(target, 1_000)
    assert not result.failure, result.failure
    assert result.runs == 1_000
    assert result.covered > 50


@pytest.mark.parametrize("target", guided.TARGETS)
def test_every_seed_is_accepted(target: str) -> None:
    where = guided.TARGETS[target]
    module = importlib.import_module(where.module)
    run = getattr(module, where.name)().run
    assert {run(data) for data in module.seeds()} <= {True, grpc.StatusCode.OK}


def test_generated_requests_reveal_no_violation() -> None:
    path, made = RequestPath(), RequestMaker(seed=5)
    made.learn([f"i{n}" for n in range(20)])
    codes: dict[grpc.StatusCode, int] = {}
    for _, request in zip(range(3_000), made, strict=False):
        code = path.ask(*request)
        codes[code] = codes.get(code, 0) + 1
    assert min(codes[grpc.StatusCode.OK], codes[grpc.StatusCode.INVALID_ARGUMENT]) > 900, codes


def test_the_same_seed_makes_the_same_requests() -> None:
    first, again = (
        [one for _, one in zip(range(200), RequestMaker(3), strict=False)] for _ in (1, 2)
    )
    assert first == again


QUERY = pb.RetrieveRequest(user_id="u", max_candidates=3, exclude_item_ids=["x"])


@pytest.mark.parametrize(
    ("request_", "answer", "violation"),
    [
        (QUERY, [("a", 2), ("b", 1)], None),
        (QUERY, [("a", 2), ("x", 1)], "an excluded item"),
        (QUERY, [("a", 2), ("a", 1)], "a duplicate"),
        (QUERY, [("a", 1), ("b", 2)], "not sorted by score"),
        (QUERY, [("a", 2), ("", 1)], "an empty item id"),
        (QUERY, [("a", 4), ("b", 3), ("c", 2), ("d", 1)], "more than max_candidates"),
        (QUERY, [("a", float("nan"))], "a score that is not a number"),
        (pb.RetrieveRequest(item_id="a"), [("a", 1)], "the query item"),
        (pb.RetrieveRequest(), [("a", 1)], "answered without a query"),
        (pb.RetrieveRequest(user_id="u", exclude_seen=True), [("s", 1)], "a seen item"),
    ],
)
def test_violations_are_detected(
    request_: pb.RetrieveRequest, answer: list[tuple[str, float]], violation: str | None
) -> None:
    response = pb.RetrieveResponse(
        candidates=[pb.Candidate(item_id=one, score=score) for one, score in answer],
        origin=pb.ORIGIN_MODEL,
        model_version=1,
    )
    expected = [] if violation is None else [violation]
    data = request_.SerializeToString()
    assert violations(RETRIEVE, data, response.SerializeToString(), lambda _: {"s"}) == expected
    batch = pb.BatchRetrieveRequest(requests=[request_]).SerializeToString()
    results = pb.BatchRetrieveResponse(results=[pb.BatchRetrieveResult(response=response)])
    assert violations(BATCH, batch, results.SerializeToString(), lambda _: {"s"}) == expected


@pytest.mark.parametrize("method", [RETRIEVE, BATCH])
def test_response_that_is_not_a_message_is_a_violation(method: str) -> None:
    tally = Tally()
    tally.count(Request(method, b""), "OK", b"\xff")
    assert dict(tally.violations) == {"a response that is not a message": 1}


def test_only_personal_responses_for_users_are_counted_as_personal() -> None:
    tally = Tally()
    response = pb.RetrieveResponse(model_version=1)
    for query in (pb.RetrieveRequest(user_id="u"), pb.RetrieveRequest(item_id="i")):
        for response.origin in (pb.ORIGIN_MODEL, pb.ORIGIN_POPULARITY):
            one = Request(RETRIEVE, query.SerializeToString())
            tally.count(one, "OK", response.SerializeToString())
    assert tally.clean
    assert tally.personal == 1


def test_forbidden_status_is_a_failure() -> None:
    for status, clean in (("NOT_FOUND", True), ("INTERNAL", False), ("UNKNOWN", False)):
        tally = Tally()
        tally.count(Request(RETRIEVE, b""), status, b"")
        assert tally.clean is clean
    assert not Tally(alive=False).clean


_first_accepted = retriever._first_accepted


def _reject_nothing(ranking: RankedItems, _: object, k: int) -> Any:
    return _first_accepted(ranking, frozenset(), k)


@pytest.mark.parametrize(
    ("violation", "name", "broken"),
    [
        ("an excluded item", "_first_accepted", _reject_nothing),
        ("the query item", "_first_accepted", _reject_nothing),
        ("a seen item", "_first_accepted", _reject_nothing),
        (
            "more than max_candidates",
            "_first_accepted",
            lambda row, excluded, _: _first_accepted(row, excluded, 200),
        ),
        ("a duplicate", "_first_accepted", lambda row, _, k: (row.item_ids[:k], row.scores[:k])),
        ("an empty item id", "_FILLER", b"?"),
    ],
)
def test_request_path_detects_a_bug_in_the_core(
    monkeypatch: pytest.MonkeyPatch, violation: str, name: str, broken: Any
) -> None:
    monkeypatch.setattr(retriever, name, broken)
    path, made = RequestPath(), RequestMaker(seed=5)
    made.learn([f"i{n}" for n in range(20)])
    found = set()
    for _, request in zip(range(1_000), made, strict=False):
        try:
            path.ask(*request)
        except Violation as error:
            found |= set(str(error).split(", "))
    assert violation in found


def test_request_path_detects_a_bug_in_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_HEADERS", [])
    with pytest.raises(Violation, match="INTERNAL"):
        RequestPath().ask(RETRIEVE, QUERY.SerializeToString())


def test_predict_detects_a_bug_in_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = PredictAnswers()
    monkeypatch.setattr(tensors, "decode_strings", lambda content, count: [content] * count)
    answer = valid_response(as_content=True)
    answer.outputs["item_id"].tensor_content = b"\xff"
    assert not answers.run(answer.SerializeToString())
    monkeypatch.setattr(tensors, "decode_strings", lambda *_: None)
    with pytest.raises(TypeError):
        answers.run(answer.SerializeToString())
