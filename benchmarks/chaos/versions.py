"""Scenario: versions are published under load; some are damaged, some are rolled back.

Versions alternate between two small models with the same users. The item ids of the two models
begin with different letters, so that a check can detect an answer that mixes two versions.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc

from benchmarks.chaos.checks import Check, ScenarioError, at_most, equal, no_requests
from benchmarks.chaos.environment import Environment
from benchmarks.chaos.load import SteadyLoad
from benchmarks.chaos.outcomes import failed, faulty
from benchmarks.chaos.requests import KnownIds, for_users
from benchmarks.reporting import percentile
from benchmarks.service.catalogue import ensure_model
from benchmarks.serving import current_version, method
from serving_contract import ITEMS_CSV, MODEL_NAMES, REPORTS, RETRIEVAL, SEEN_SQLITE
from tfserving_subset.v1 import prediction_pb2 as tfs
from tools.processes import Server
from tools.usage import memory_mib
from tools.waiting import until
from trainer.registry import checksums, layout, promotion
from trainer.registry.store import Store
from trainer.registry.version_record import VersionRecord

_PREFIXES = ("a-", "b-")
_ITEMS, _USERS = 20_000, 500
_PUBLISHED, _DAMAGED = 30, 5
#: Memory at the end is compared with memory after this many versions.
_SETTLED = 3
_MAX_GROWTH_PERCENT = 10
_LOADED_WITHIN_S = 30
#: Not shorter, because each GetModelStatus request uses processor time on both sides.
_STATUS_INTERVAL_S = 0.1
_KEPT_VERSIONS = 5
_END = tfs.ModelVersionStatus.END
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


def publishes(env: Environment) -> Iterator[Check]:
    """Versions are published one after another; some are damaged, some are rolled back."""
    pair = [ensure_model(env.work / f"small-{p}", _ITEMS, _USERS, p) for p in _PREFIXES]
    models_dir = env.work / "published"
    shutil.rmtree(models_dir, ignore_errors=True)
    publisher = _Publisher(models_dir, pair)
    publisher.publish()
    requests = [request for source in pair for request in for_users(KnownIds(source))]
    poll = ("--poll-interval-s", "0.2")
    with (
        env.model_server("publishes", *poll, models_dir=models_dir) as models,
        env.service("publishes", models) as service,
        env.load(service, requests=requests, check=publisher.check) as load,
    ):
        memory = []
        period = _PUBLISHED // _DAMAGED
        for number in range(1, _PUBLISHED + 1):
            if number % period == period // 2:
                _wait_until_refused(models, publisher.publish(damaged=True))
                _wait_until_served(load, models, publisher.roll_back())
            else:
                _wait_until_served(load, models, publisher.publish())
            if number % period == 0:
                _wait_until_served(load, models, publisher.roll_back())
            memory.append(sum(memory_mib(models.process)))
        outcomes = load.finish()
    settled, last = memory[_SETTLED - 1], memory[-1]
    versions = set(outcomes.version) - {0}
    counts = f"{len(publisher.damaged)} damaged; {publisher.rollbacks} rollbacks"
    yield Check("published versions", f"{_PUBLISHED}, {counts}")
    yield env.check_send_delay(outcomes)
    yield Check("versions that answered", f"{len(versions)}")
    yield no_requests("failed", failed(outcomes))
    yield no_requests("wrong answers, mixed versions included", faulty(outcomes))
    yield equal("damaged versions that answered", len(versions & publisher.damaged), 0)
    yield Check("p99", f"{percentile(outcomes.latency_ms, 99):.0f} ms")
    yield at_most(
        f"memory growth of the model server, from {settled:,.0f} MiB after {_SETTLED} versions",
        100 * (last / settled - 1),
        _MAX_GROWTH_PERCENT,
        "%",
        1,
    )


class _Publisher:
    """Publishes copies of two models alternately, with the trainer's own code.

    Attributes:
        damaged: the numbers of the damaged versions.
        rollbacks: the number of rollbacks.
    """

    def __init__(self, models_dir: Path, pair: list[Path]) -> None:
        self._store, self._pair = Store(models_dir), pair
        self.damaged: set[int] = set()
        self.rollbacks = 0

    def publish(self, *, damaged: bool = False) -> int:
        """Publish the next version and return its number.

        A damaged version loses half of its model file, as if after the quality gate.
        """
        with self._store.staging() as staged:
            source = current_version(self._pair[staged.version % 2])
            for name in (*MODEL_NAMES, REPORTS):
                shutil.copytree(source / name / source.name, staged.directory / name)
            for name in (ITEMS_CSV, SEEN_SQLITE):
                shutil.copy2(source / name, staged.directory / name)
            layout.arrange(staged)
            record = replace(
                VersionRecord.read(source),
                version=staged.version,
                files=checksums.compute(staged),
                promotions=[],
            )
            if damaged:
                graph = staged.directory / RETRIEVAL / f"{staged.version}" / "saved_model.pb"
                graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
                self.damaged.add(staged.version)
            promotion.add(self._store, staged, record, served=self._store.current())
        promotion.collect_garbage(self._store, _KEPT_VERSIONS)
        return staged.version

    def roll_back(self) -> int:
        """Roll back; return the version that is served afterwards."""
        self.rollbacks += 1
        return promotion.rollback(self._store)[0]

    def check(self, version: int, item_id: str) -> str:
        """Return the error if an item does not belong to the version, or an empty text."""
        prefix = _PREFIXES[version % 2]
        return "" if item_id.startswith(prefix) else f"{item_id} in an answer of version {version}"


def _wait_until_served(load: SteadyLoad, models: Server, version: int) -> None:
    """Wait until a version answers and all other versions are unloaded."""
    until(lambda: load.version == version, _LOADED_WITHIN_S, f"version {version} answers")
    until(
        lambda: all(state == _END for one, state in _states(models).items() if one != version),
        _LOADED_WITHIN_S,
        f"all versions but {version} are unloaded",
        interval_s=_STATUS_INTERVAL_S,
    )


def _wait_until_refused(models: Server, version: int) -> None:
    """Wait until the model server has failed to load a version."""
    until(
        lambda: _states(models).get(version) == _END,
        _LOADED_WITHIN_S,
        f"the model server refuses version {version}",
        interval_s=_STATUS_INTERVAL_S,
    )


def _states(models: Server) -> dict[int, int]:
    """Return the state of each version that the model server reports, by version number."""
    spec = tfs.ModelSpec(name=RETRIEVAL)
    request = tfs.GetModelStatusRequest(model_spec=spec).SerializeToString()
    with grpc.insecure_channel(models.address) as channel:
        try:
            data = method(channel, _STATUS)(request, timeout=10)
        except grpc.RpcError as error:
            raise ScenarioError(
                f"the model server does not report its versions: {error}"
            ) from error
    states = tfs.GetModelStatusResponse.FromString(data).model_version_status
    return {status.version: status.state for status in states}
