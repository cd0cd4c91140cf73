"""A model server follows publications and rollbacks without failing a request."""

import asyncio
import json
import threading
from collections import Counter
from pathlib import Path

from query_service.stores.sqlite import SqliteSeenStore
from tests.conftest import running
from tests.model_server.conftest import Stubs, predict_request, save_version
from tests.trainer.registry.fake_versions import complete
from tools.waiting import until
from trainer.artifact import side_files
from trainer.registry import promotion
from trainer.registry.promotion import collect_garbage
from trainer.registry.store import Store

MODELS = ("retrieval", "retrieval_exact")
POLL_S = 0.2
# Enough to load a tiny model on a busy machine.
LOADED_WITHIN_S = 10


def _publish(store: Store) -> int:
    """Publish a version whose two models greet with its number; return the number."""
    with store.staging() as staged:
        for name in MODELS:
            save_version(staged.directory, staged.version, f"{staged.version} ", model=f"{name}-")
            (staged.directory / f"{name}-" / f"{staged.version}").rename(staged.directory / name)
            (staged.directory / f"{name}-").rmdir()
            manifest = staged.directory / name / "assets.extra" / "manifest.json"
            manifest.write_text(json.dumps({}))
        (staged.directory / "reports").mkdir()
        side_files.write_items(staged.directory / "items.csv", [("i", f"{staged.version}")])
        side_files.write_seen(staged.directory / "seen.sqlite", [("u", f"{staged.version}")])
        promotion.add(store, staged, complete(staged), served=store.current())
    return staged.version


class _Load:
    """Sends requests to both models without a pause, from two threads each."""

    def __init__(self, address: str) -> None:
        self._stubs = Stubs(int(address.rpartition(":")[2]))
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=[name]) for name in MODELS * 2]
        self.latest = dict.fromkeys(MODELS, "")
        self.answered: Counter[str] = Counter()
        self.failed: list[Exception] = []

    def __enter__(self) -> "_Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._stubs.channel.close()

    def wait_for(self, version: int) -> None:
        until(
            lambda: set(self.latest.values()) == {f"{version} Ada"},
            POLL_S + LOADED_WITHIN_S,
            f"version {version} answers",
        )

    def _ask(self, name: str) -> None:
        request = predict_request(name)
        while not self._ended.is_set():
            try:
                answer = self._stubs.predict(request, timeout=10)
                greeting = answer.outputs["greeting"].string_val[0].decode()
                # The answer names the version that gave it.
                assert greeting == f"{answer.model_spec.version.value} Ada"
            except Exception as error:  # noqa: BLE001  (any failure fails the test)
                self.failed.append(error)
            else:
                self.latest[name] = greeting
                self.answered[greeting] += 1


def test_no_request_fails_while_versions_change(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    _publish(store)
    arguments = ("--models-dir", str(store.models_dir), "--poll-interval-s", str(POLL_S))
    with (
        running("model_server", *arguments, "--port", "0") as (address, _),
        _Load(address) as load,
    ):
        load.wait_for(1)
        load.wait_for(_publish(store))
        assert promotion.rollback(store) == (1, 2)
        load.wait_for(1)
        # Version 2 is loaded again after it was unloaded.
        promotion.promote(store, 2)
        load.wait_for(2)
        assert _publish(store) == 3
        load.wait_for(3)
        assert promotion.rollback(store, to=1) == (1, 3)
        load.wait_for(1)
        assert collect_garbage(store, 1) == [2]
        # These changes are faster than the server polls.
        for _ in range(10):
            promotion.promote(store, 3)
            promotion.rollback(store)
        promotion.promote(store, 3)
        load.wait_for(3)
    assert load.failed == []
    assert set(load.answered) == {"1 Ada", "2 Ada", "3 Ada"}


def test_seen_items_and_titles_change_with_the_version(tmp_path: Path) -> None:
    store = Store(tmp_path / "models")
    _publish(store)
    _publish(store)

    async def ask() -> None:
        seen = SqliteSeenStore(store.models_dir / "seen.sqlite")
        items = store.models_dir / "items.csv"
        assert await seen.seen("u") == frozenset([b"2"])
        promotion.rollback(store)
        assert await seen.seen("u") == frozenset([b"1"])
        assert items.read_text().splitlines()[1] == "i,1"
        promotion.promote(store, 2)
        assert await seen.seen("u") == frozenset([b"2"])
        assert items.read_text().splitlines()[1] == "i,2"
        await seen.close()

    asyncio.run(ask())
