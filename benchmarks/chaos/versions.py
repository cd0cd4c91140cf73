"""Versions are published, some of them broken, and rolled back, under load.

Two small models share their users, and the ids of their items begin with a letter of their own: a
candidate shows which model it comes from. Every second version is the one or the other, so an
answer that mixes two versions is seen.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc

from benchmarks.chaos.asking import users
from benchmarks.chaos.catalogue import Catalogue, made
from benchmarks.chaos.checks import Broken, Check, at_most, holds, none, told
from benchmarks.chaos.lab import Lab
from benchmarks.chaos.load import Load
from benchmarks.chaos.outcomes import failed, faulty, quantile_ms
from benchmarks.chaos.processes import Server, memory_mib, wait_until
from serving_contract import ITEMS_CSV, MODEL_NAMES, REPORTS, RETRIEVAL, SEEN_SQLITE
from tfserving_subset.v1 import prediction_pb2 as tfs

_PREFIXES = ("a-", "b-")
_ITEMS, _USERS = 20_000, 500
_BROKEN, _ROLLBACKS = 5, 5
#: From here on memory is held against what it was.
_SETTLED = 3
_GROWN_PERCENT = 10
_LOADED_WITHIN_S = 30
#: At what the model server says: it costs both of us.
_LOOK_EVERY_S = 0.1
_KEPT = 5
_END = tfs.ModelVersionStatus.END
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


def publishes(lab: Lab) -> Iterator[Check]:
    """Versions published one after the other; some broken, some rolled back."""
    pair = [made(lab.work / f"small-{one}", _ITEMS, _USERS, one) for one in _PREFIXES]
    models_dir = lab.work / "published"
    shutil.rmtree(models_dir, ignore_errors=True)
    publisher = _Publisher(models_dir, pair)
    publisher.publish()
    asked = [one for part in pair for one in users(Catalogue(part))]
    poll = ("--poll-interval-s", "0.2")
    with ExitStack() as stack:
        models = stack.enter_context(
            lab.model_server("publishes-models", *poll, models_dir=models_dir)
        )
        service = stack.enter_context(lab.service("publishes", models))
        load = stack.enter_context(lab.load(service, asked=asked, judge=publisher.judge))
        memory = []
        for number in range(1, lab.publishes + 1):
            every = lab.publishes // _BROKEN
            if number % every == every // 2:
                _refuses(models, publisher.publish(broken=True))
                _serves(load, models, publisher.go_back())
            else:
                _serves(load, models, publisher.publish())
            if number % every == 0:
                _serves(load, models, publisher.go_back())
            memory.append(memory_mib(models.process))
        outcomes = load.finish()
    settled, last = memory[_SETTLED - 1], memory[-1]
    versions = {one.version for one in outcomes if one.version}
    yield told(
        "published",
        f"{lab.publishes}, {publisher.broken} broken; gone back {publisher.gone_back} times",
    )
    yield lab.on_time(outcomes)
    yield told("versions that answered", f"{len(versions)}")
    yield none("failed", failed(outcomes))
    yield none("answers that mix versions, or wrong ones", faulty(outcomes))
    wrong = versions & publisher.damaged
    yield holds("broken versions that answered", not wrong, f"{len(wrong)}", "0")
    yield told("p99", f"{quantile_ms(outcomes, 99):.0f} ms")
    yield at_most(
        f"memory of the model server, {settled:,.0f} MiB after {_SETTLED}, grew by",
        100 * (last / settled - 1),
        _GROWN_PERCENT,
        "%",
        1,
    )


class _Publisher:
    """Publishes copies of two models in turn, by the trainer's own code."""

    def __init__(self, models_dir: Path, pair: list[Path]) -> None:
        # TensorFlow comes with it, and other scenarios need none.
        from trainer.registry.store import Store

        self._store, self._pair = Store(models_dir), pair
        self.damaged: set[int] = set()
        self.gone_back = 0

    @property
    def broken(self) -> int:
        """How many of the published versions are."""
        return len(self.damaged)

    def publish(self, *, broken: bool = False) -> int:
        """The next version. A broken one passes its gate, and then loses half of its model."""
        from trainer.registry import checksums as sealing
        from trainer.registry import promotion as switching
        from trainer.registry import version_record as record

        with self._store.staging() as staged:
            source = self._pair[staged.version % 2]
            version = source.joinpath("current").resolve()
            for name in (*MODEL_NAMES, REPORTS):
                shutil.copytree(version / name / version.name, staged.directory / name)
            for name in (ITEMS_CSV, SEEN_SQLITE):
                shutil.copy2(version / name, staged.directory / name)
            sealing.arrange(staged)
            judged = record.Record(
                version=staged.version,
                created=record.now(),
                source="chaos",
                dataset="",
                items=_ITEMS,
                unseen_top_100=None,
                index_recall_at_100=1.0,
                checks={},
                test_rows=None,
                files=sealing.digests(staged),
            )
            if broken:
                graph = staged.directory / RETRIEVAL / f"{staged.version}" / "saved_model.pb"
                graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
                self.damaged.add(staged.version)
            switching.admit(self._store, staged, judged, self._store.current(), None)
        switching.collect(self._store, _KEPT)
        return staged.version

    def go_back(self) -> int:
        """Roll back; the version that is served then."""
        from trainer.registry import promotion as switching

        self.gone_back += 1
        return switching.rollback(self._store)[0]

    def judge(self, version: int, item_id: str) -> str:
        """What is wrong with an item in an answer of that version."""
        prefix = _PREFIXES[version % 2]
        return "" if item_id.startswith(prefix) else f"{item_id} in an answer of version {version}"


def _serves(load: Load, models: Server, version: int) -> None:
    """Wait until the version answers, and no other one has memory."""
    wait_until(
        lambda: load.version == version, _LOADED_WITHIN_S, f"version {version} in the answers"
    )
    wait_until(
        lambda: all(state == _END for one, state in _states(models).items() if one != version),
        _LOADED_WITHIN_S,
        f"all versions but {version} unloaded",
        _LOOK_EVERY_S,
    )


def _refuses(models: Server, version: int) -> None:
    """Wait until the model server has tried to load it, and cannot."""
    wait_until(
        lambda: _states(models).get(version) == _END,
        _LOADED_WITHIN_S,
        f"version {version} refused by the model server",
        _LOOK_EVERY_S,
    )


def _states(models: Server) -> dict[int, int]:
    """What the model server says of each version."""
    spec = tfs.ModelSpec(name=RETRIEVAL)
    request = tfs.GetModelStatusRequest(model_spec=spec).SerializeToString()
    with grpc.insecure_channel(models.address) as channel:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_STATUS)
        try:
            data = ask(request, timeout=10)
        except grpc.RpcError as error:
            raise Broken(f"the model server does not say its versions: {error}") from error
    states = tfs.GetModelStatusResponse.FromString(data).model_version_status
    return {one.version: one.state for one in states}
