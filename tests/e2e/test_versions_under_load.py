"""Versions change while query services are asked: no request fails, no answer mixes two."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import running
from tests.e2e import revealing
from tests.model_server.conftest import Stubs, model_status
from tools.waiting import until
from trainer.errors import StoreError
from trainer.registry import promotion
from trainer.registry.garbage_collection import collect_garbage
from trainer.registry.store import Store

MODELS = ("retrieval", "retrieval_exact")
MADE = 4
AVAILABLE, END = 30, 50


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Versions 1 to 4, none of them served."""
    store = Store(tmp_path_factory.mktemp("revealing") / "models")
    assert [revealing.keep(store) for _ in range(MADE)] == list(range(1, MADE + 1))
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    """The same, for one test; version 1 is served."""
    store = Store(tmp_path / "models")
    shutil.copytree(made.models_dir, store.models_dir)
    promotion.promote(store, 1)
    return store


@contextmanager
def _loaded(models_dir: Path) -> Iterator[tuple[revealing.Load, Stubs]]:
    """A model server, a query service for each of its models, one with a cache; both asked."""
    serving = ("--models-dir", str(models_dir), "--port", "0", "--poll-interval-s", "0.2")
    with ExitStack() as stack:
        upstream, _ = stack.enter_context(running("model_server", *serving))
        addresses = []
        for model, cache in zip(MODELS, ("0", "1000"), strict=True):
            asking = ("--model-server", upstream, "--model", model, "--cache-size", cache)
            more = ("--seen-store", "none", "--timeout-s", "10")
            addresses.append(
                stack.enter_context(
                    running("query_service", "serve", "--port", "0", *asking, *more)
                )[0]
            )
        stubs = Stubs(int(upstream.rpartition(":")[2]))
        stack.callback(stubs.channel.close)
        load = stack.enter_context(revealing.Load(addresses))
        load.wait_for(1)
        yield load, stubs
        assert load.wrong == []


def _states(stubs: Stubs, model: str) -> dict[int, int]:
    return {one.version: one.state for one in model_status(stubs, model)}


def _ended_with(stubs: Stubs, model: str, version: int) -> str:
    """The error with which a version ended, once it has."""
    until(lambda: _states(stubs, model).get(version) == END)
    [found] = [one for one in model_status(stubs, model) if one.version == version]
    return str(found.status.error_message)


def _serve_unchecked(store: Store, version: int) -> None:
    """As when files break after they were checked."""
    with store.lock():
        store.switch(version)


def test_published_and_rolled_back(store: Store) -> None:
    with _loaded(store.models_dir) as (load, _):
        promotion.promote(store, 2)
        load.wait_for(2)
        assert promotion.rollback(store) == (1, 2)
        load.wait_for(1)
        # An old version comes back although it was unloaded.
        promotion.promote(store, 3)
        load.wait_for(3)
        promotion.promote(store, 2)
        load.wait_for(2)
        # Changes faster than the server looks.
        for _ in range(10):
            promotion.promote(store, 4)
            promotion.rollback(store)
        promotion.promote(store, 4)
        load.wait_for(4)
        # What is not served can go.
        assert collect_garbage(store, 1) == [1, 3]
        load.wait_for(4)
        assert promotion.rollback(store) == (2, 4)
        load.wait_for(2)


def test_broken_versions_are_not_served(store: Store) -> None:
    for model in MODELS:
        graph = store.directory(2) / model / "2" / "saved_model.pb"
        graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    variables = store.directory(3) / "retrieval_exact/3/variables/variables.data-00000-of-00001"
    data = bytearray(variables.read_bytes())
    data[len(data) // 2] ^= 1
    variables.write_bytes(data)
    with _loaded(store.models_dir) as (load, stubs):
        for version in (2, 3):
            with pytest.raises(StoreError, match="is not the file that was published"):
                promotion.promote(store, version)
        _serve_unchecked(store, 2)
        for model in MODELS:
            said = _ended_with(stubs, model, 2)
            assert f"{model}/2/saved_model.pb is not the file that was published" in said
            assert _states(stubs, model)[1] == AVAILABLE
        load.wait_for(1)
        # Each model is loaded by itself: the sound one changes, the other one stays.
        _serve_unchecked(store, 3)
        assert str(variables.name) in _ended_with(stubs, "retrieval_exact", 3)
        until(lambda: _states(stubs, "retrieval").get(3) == AVAILABLE)
        assert _states(stubs, "retrieval_exact")[1] == AVAILABLE
        # The next good one mends it.
        promotion.promote(store, 4)
        load.wait_for(4)


def test_deleted_versions(store: Store, tmp_path: Path) -> None:
    # In TensorFlow Serving's own layout: versions beside one another, the newest one serves.
    plain = tmp_path / "plain"

    def publish(version: int) -> None:
        for model in MODELS:
            unfinished = plain / model / ".unfinished"
            shutil.copytree(store.directory(version) / model / str(version), unfinished)
            unfinished.rename(plain / model / str(version))

    def delete(version: int) -> None:
        for model in MODELS:
            shutil.rmtree(plain / model / str(version))

    publish(1)
    with _loaded(plain) as (load, stubs):
        publish(2)
        load.wait_for(2)
        delete(2)
        load.wait_for(1)
        publish(3)
        load.wait_for(3)
        delete(1)
        publish(4)
        load.wait_for(4)
        # The whole directory is away, as a mount can be: what is loaded answers.
        plain.rename(tmp_path / "away")
        load.wait_for(4)
        (tmp_path / "away").rename(plain)
        delete(4)
        load.wait_for(3)
        for model in MODELS:
            assert {number for number, one in _states(stubs, model).items() if one != END} == {3}
