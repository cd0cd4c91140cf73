"""Versions whose every answer shows which version gave it, and a load that checks the answers.

The items of version 3 are ``v3-0``, ``v3-1`` and so on, and score between 3 and 4. Only the query
item ``seed`` is in every version.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator

import grpc.aio
import numpy as np

from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc
from tests.trainer.registry.fake_versions import complete
from tools.waiting import until
from trainer import config
from trainer.artifact import side_files
from trainer.artifact.servable import Servable
from trainer.data.histories import Histories
from trainer.model.towers.query import QueryWeights
from trainer.pipelines import build
from trainer.registry.store import StagedVersion, Store
from trainer.registry.version_record import VersionRecord

ITEMS, USERS = 400, 8
SEED = "seed"
# This many excluded items make the service fetch candidates a second time.
_EXCLUDED = 200
_VERSIONS = range(1, 7)
_IN_FLIGHT = 12
_LOADED_WITHIN_S = 60


def item(version: int, number: int) -> str:
    """Return the item at position ``number`` of every ranking of a version."""
    return f"v{version}-{number}"


def _servable(version: int) -> Servable:
    # The query is always the first unit vector, so an item's score is its first component.
    scores = version + np.linspace(0.9, 0.1, ITEMS, dtype=np.float32)
    vectors = np.stack([scores, np.zeros(ITEMS, np.float32)], axis=1)
    query = np.array([1, 0], np.float32)
    return Servable(
        candidate_vectors=vectors,
        item_ids=np.array([item(version, n) for n in range(ITEMS - 1)] + [SEED], object),
        item_queries=np.tile(query, (ITEMS, 1)),
        query=QueryWeights(
            base=query,
            item_vectors=None,
            item_log_weights=np.zeros(ITEMS, np.float32),
            age_log_weights=np.zeros(1, np.float32),
            exponent=0.0,
            history_length=0,
            user_vectors=np.zeros((USERS, 2), np.float32),
            normalize=False,
        ),
        user_ids=np.array([f"u{n}" for n in range(USERS)], object),
        histories=Histories(np.zeros(USERS + 1, np.int64), np.zeros(0, np.int32)),
        popularity=scores,
    )


def stage(staged: StagedVersion) -> VersionRecord:
    """Write a complete version into ``staged``; return its record."""
    settings = config.load("default", ["index.kind=brute_force"])
    servable = _servable(staged.version)
    build.build(servable, staged.directory, settings.index, {}, lambda _: None)
    (staged.directory / "reports").mkdir()
    side_files.write_items(staged.directory / "items.csv", [])
    side_files.write_seen(staged.directory / "seen.sqlite", [])
    return complete(staged, items=ITEMS)


def add_unserved(store: Store) -> int:
    """Add the next version without serving it; return its number."""
    with store.staging() as staged, store.lock():
        stage(staged).write(staged.directory)
        store.add(staged)
    return staged.version


def requests() -> Iterator[pb.RetrieveRequest]:
    """Yield requests for users, an unknown user and an item, with and without exclusions."""
    best = [item(version, n) for version in _VERSIONS for n in range(_EXCLUDED)]
    for number in range(USERS):
        yield pb.RetrieveRequest(user_id=f"u{number}", max_candidates=20)
    yield pb.RetrieveRequest(user_id="nobody", max_candidates=20)
    yield pb.RetrieveRequest(item_id=SEED, max_candidates=20)
    yield pb.RetrieveRequest(user_id="u0", max_candidates=20, exclude_item_ids=best)
    yield pb.RetrieveRequest(item_id=SEED, max_candidates=20, exclude_item_ids=best)


def problem(request: pb.RetrieveRequest, answer: pb.RetrieveResponse) -> str:
    """Return what is wrong with an answer, or an empty text."""
    version = answer.model_version
    first = _EXCLUDED if request.exclude_item_ids else 0
    expected = [item(version, n) for n in range(first, first + 20)]
    found = [one.item_id for one in answer.candidates]
    if found != expected:
        return f"version {version}: {found}"
    if {int(one.score) for one in answer.candidates} != {version}:
        return f"version {version}: {answer.candidates}"
    return ""


class Load:
    """Sends requests and batches to query services without a pause, and checks all answers."""

    def __init__(self, addresses: list[str]) -> None:
        self.problems: list[str] = []
        self.answered: Counter[tuple[str, int]] = Counter()
        self._addresses = addresses
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def wait_for(self, version: int) -> None:
        """Wait until only that version answers, at every address."""

        def only_that_version_answers() -> bool:
            before = Counter(self.answered)
            time.sleep(0.1)
            new = Counter(self.answered) - before
            return {answered for _, answered in new} == {version} and all(
                new[address, version] for address in self._addresses
            )

        until(only_that_version_answers, _LOADED_WITHIN_S, f"only version {version} answers")

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for address in self._addresses:
                for number in range(_IN_FLIGHT):
                    tasks.create_task(self._ask(address, number))

    async def _ask(self, address: str, number: int) -> None:
        asked = list(requests())
        async with grpc.aio.insecure_channel(address) as channel:
            stub = retrieval_service_pb2_grpc.RetrievalServiceStub(channel)
            while not self._ended.is_set():
                number += 1
                batch = asked if number % 10 == 0 else [asked[number % len(asked)]]
                try:
                    if len(batch) > 1:
                        answer = await stub.BatchRetrieve(
                            pb.BatchRetrieveRequest(requests=batch), timeout=20
                        )
                        self.problems += [
                            str(one) for one in answer.results if one.HasField("error")
                        ]
                        answers = [one.response for one in answer.results]
                    else:
                        answers = [await stub.Retrieve(batch[0], timeout=20)]
                except grpc.aio.AioRpcError as error:
                    self.problems.append(str(error))
                    continue
                for request, one in zip(batch, answers, strict=True):
                    if found := problem(request, one):
                        self.problems.append(found)
                    self.answered[address, one.model_version] += 1
