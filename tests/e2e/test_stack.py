"""A trained model is served and queried by real processes over real sockets."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from query_service.client import RetrievalClient
from tests.conftest import running


@pytest.fixture(scope="module", params=["retrieval", "retrieval_exact"])
def client(request: pytest.FixtureRequest, models_dir: Path) -> Iterator[RetrievalClient]:
    """A client of a query service with one of the two models."""
    serving = ("--models-dir", str(models_dir), "--port", "0", "--model", request.param)
    with running("model_server", *serving) as (upstream, _):
        asking = ("--model-server", upstream, "--model", request.param)
        store = ("--seen-store", f"sqlite:{models_dir / 'seen.sqlite'}")
        with (
            running("query_service", "serve", "--port", "0", *asking, *store) as (address, _),
            RetrievalClient(address) as client,
        ):
            yield client


@pytest.fixture(scope="module")
def seen(models_dir: Path) -> dict[str, set[str]]:
    """The seen items of every user."""
    connection = sqlite3.connect(models_dir / "seen.sqlite")
    pairs = connection.execute("SELECT user_id, item_id FROM seen").fetchall()
    connection.close()
    by_user: dict[str, set[str]] = {}
    for user, item in pairs:
        by_user.setdefault(user, set()).add(item)
    return by_user


def test_users_get_the_best_unseen_items(
    client: RetrievalClient, seen: dict[str, set[str]]
) -> None:
    busiest = max(seen, key=lambda user: len(seen[user]))
    for user in (busiest, "u0", "u42"):
        ranking = client.for_user(user, 1000)
        ids = [one.item_id for one in ranking.candidates]
        scores = [one.score for one in ranking.candidates]
        assert ranking.personal
        assert len(set(ids)) == 1000
        assert scores == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
        answer = client.for_user(user, 100, exclude_seen=True, exclude=ids[:50])
        # The ranking has enough unseen items, so the comparison covers all candidates.
        expected = [one for one in ids[50:] if one not in seen[user]][:100]
        assert len(expected) == 100
        assert [one.item_id for one in answer.candidates] == expected


def test_similar_items_exclude_the_item_and_those_seen_by_the_viewer(
    client: RetrievalClient, seen: dict[str, set[str]]
) -> None:
    answer = client.for_item("i7", 50, viewer_id="u3")
    ids = {one.item_id for one in answer.candidates}
    assert len(ids) == 50
    assert not ids & ({"i7"} | seen["u3"])


def test_unknown_user_gets_the_most_popular_items(
    client: RetrievalClient, seen: dict[str, set[str]]
) -> None:
    answer = client.for_user("nobody", 20)
    assert not answer.personal
    assert len(answer.candidates) == 20
    counts = [sum(one.item_id in items for items in seen.values()) for one in answer.candidates]
    assert np.corrcoef(counts, [one.score for one in answer.candidates])[0, 1] > 0.98
