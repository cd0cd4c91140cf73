"""No request fails and no answer mixes versions while versions change under load."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import running
from tests.e2e import distinguishable_versions
from tests.model_server.conftest import Stubs, model_status
from tools.waiting import until
from trainer.errors import StoreError
from trainer.registry import promotion
from trainer.registry.promotion import collect_garbage
from trainer.registry.store import Store

MODELS = ("retrieval", "retrieval_exact")
VERSIONS = 4
AVAILABLE, END = 30, 50


@pytest.fixture(scope="module")
def unserved(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of versions 1 to 4, none of which is served."""
    store = Store(tmp_path_factory.mktemp("distinguishable") / "models")
    added = [distinguishable_versions.add_unserved(store) for _ in range(VERSIONS)]
    assert added == list(range(1, VERSIONS + 1))
    return store


@pytest.fixture
def store(unserved: Store, tmp_path: Path) -> Store:
    """A copy for one test, in which version 1 is served."""
    store = Store(tmp_path / "models")
    shutil.copytree(unserved.models_dir, store.models_dir)
    promotion.promote(store, 1)
    return store


@contextmanager
def _under_load(models_dir: Path) -> Iterator[tuple[distinguishable_versions.Load, Stubs]]:
    """Run a model server and two query services, one with a cache, under load."""
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
        load = stack.enter_context(distinguishable_versions.Load(addresses))
        load.wait_for(1)
        yield load, stubs
        assert load.problems == []


def _states(stubs: Stubs, model: str) -> dict[int, int]:
    return {one.version: one.state for one in model_status(stubs, model)}


def _ended_with(stubs: Stubs, model: str, version: int) -> str:
    """Wait until a version has ended; return its error."""
    until(lambda: _states(stubs, model).get(version) == END)
    [found] = [one for one in model_status(stubs, model) if one.version == version]
    return str(found.status.error_message)


def _serve_unchecked(store: Store, version: int) -> None:
    """Serve a version without comparing its checksums, as if it had broken afterwards."""
    with store.lock():
        store.switch_current(version)


def test_promotions_and_rollbacks_fail_no_request(store: Store) -> None:
    with _under_load(store.models_dir) as (load, _):
        promotion.promote(store, 2)
        load.wait_for(2)
        assert promotion.rollback(store) == (1, 2)
        load.wait_for(1)
        # A version is loaded again after it was unloaded.
        promotion.promote(store, 3)
        load.wait_for(3)
        promotion.promote(store, 2)
        load.wait_for(2)
        # These changes are faster than the server polls.
        for _ in range(10):
            promotion.promote(store, 4)
            promotion.rollback(store)
        promotion.promote(store, 4)
        load.wait_for(4)
        # Versions that are not served can be removed.
        assert collect_garbage(store, 1) == [1, 3]
        load.wait_for(4)
        assert promotion.rollback(store) == (2, 4)
        load.wait_for(2)


def test_damaged_versions_are_not_served(store: Store) -> None:
    for model in MODELS:
        graph = store.directory(2) / model / "2" / "saved_model.pb"
        graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    variables = store.directory(3) / "retrieval_exact/3/variables/variables.data-00000-of-00001"
    data = bytearray(variables.read_bytes())
    data[len(data) // 2] ^= 1
    variables.write_bytes(data)
    with _under_load(store.models_dir) as (load, stubs):
        for version in (2, 3):
            with pytest.raises(StoreError, match="is not the file that was published"):
                promotion.promote(store, version)
        _serve_unchecked(store, 2)
        for model in MODELS:
            error = _ended_with(stubs, model, 2)
            assert f"{model}/2/saved_model.pb is not the file that was published" in error
            assert _states(stubs, model)[1] == AVAILABLE
        load.wait_for(1)
        # Models are loaded independently: the undamaged one changes, the other one stays.
        _serve_unchecked(store, 3)
        assert str(variables.name) in _ended_with(stubs, "retrieval_exact", 3)
        until(lambda: _states(stubs, "retrieval").get(3) == AVAILABLE)
        assert _states(stubs, "retrieval_exact")[1] == AVAILABLE
        # The next undamaged version serves both models again.
        promotion.promote(store, 4)
        load.wait_for(4)


def test_deleted_versions_fall_back_to_the_newest_remaining_one(
    store: Store, tmp_path: Path
) -> None:
    # This is TensorFlow Serving's own layout, in which the newest version is served.
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
    with _under_load(plain) as (load, stubs):
        publish(2)
        load.wait_for(2)
        delete(2)
        load.wait_for(1)
        publish(3)
        load.wait_for(3)
        delete(1)
        publish(4)
        load.wait_for(4)
        # While the directory is missing, as a mount can be, the loaded version answers.
        plain.rename(tmp_path / "unmounted")
        load.wait_for(4)
        (tmp_path / "unmounted").rename(plain)
        delete(4)
        load.wait_for(3)
        for model in MODELS:
            assert {number for number, one in _states(stubs, model).items() if one != END} == {3}
