"""Memory of the servers while versions change: does it stay?

    python -m benchmarks.service.swaps [--models-dir DIR] [--items 20000] [--swaps 30]

Both models of DIR (without it, one is made of drawn vectors) are published again and again, each
time under a new number, while a model server and one query service for each model answer a
steady load. Prints the resident memory of every process after each swap. The exit status is 1
where, after the last swap, one has over 10 % more than after the third, or a request failed.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
from rich.console import Console

from benchmarks.service import model as service_model
from benchmarks.service.catalogue import item_ids, user_ids
from benchmarks.service.load import Failed
from benchmarks.service.processes import Server, printed_address
from query_service.client import RetrievalClient
from serving_contract import MODEL_NAMES
from tfserving_subset.v1 import prediction_pb2 as tfserving

#: After this many the first costs are paid.
SETTLED = 3
GROWTH = 1.1
_SWAP_TIMEOUT_S = 60
_LOADS = 2  # of each model
_ASKED = 100  # different users, and items


class Load:
    """Requests without a pause to every address, for users and for items."""

    def __init__(self, addresses: list[str]) -> None:
        self.failed: list[str] = []
        self.answered = 0
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=[address]) for address in addresses * _LOADS
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, address: str) -> None:
        users, items = user_ids(_ASKED), item_ids(_ASKED)
        with RetrievalClient(address, timeout_s=30) as client:
            number = 0
            while not self._ended.is_set():
                number += 1
                try:
                    if number % 4:
                        client.for_user(users[number % _ASKED], 100)
                    else:
                        client.for_item(items[number % _ASKED], 100)
                except grpc.RpcError as error:
                    self.failed.append(str(error))
                else:
                    self.answered += 1


class Models:
    """A directory in which version after version appears, each with the same files."""

    def __init__(self, source: Path, directory: Path) -> None:
        self.directory = directory
        self._sources = {
            name: max((source / name).iterdir(), key=lambda one: int(one.name)).resolve()
            for name in MODEL_NAMES
        }
        for name in MODEL_NAMES:
            (directory / name).mkdir(parents=True)
        self.publish(1)

    def publish(self, version: int) -> None:
        """By one rename. Costs no room: the files are the same ones."""
        for name, source in self._sources.items():
            unfinished = self.directory / name / ".unfinished"
            shutil.copytree(source, unfinished, copy_function=_link)
            unfinished.rename(self.directory / name / f"{version}")

    def remove(self, version: int) -> None:
        """Of both models."""
        for name in MODEL_NAMES:
            shutil.rmtree(self.directory / name / f"{version}")


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system
        shutil.copy2(source, target)


def swaps(
    models_dir: Path, work: Path, count: int, load: list[Load]
) -> Iterator[Mapping[str, float]]:
    """Resident MiB by process: after the first load, then after each swap.

    Appends the load to ``load``: what failed is known at the end.

    Raises:
        Failed: a server does not start, or a swap takes too long.
    """
    models = Models(models_dir, work / "models")
    with ExitStack() as stack:

        def start(name: str, *command: str) -> Server:
            server = Server(
                [sys.executable, "-m", *command, "--port", "0"],
                work / f"{name}.log",
                printed_address,
            )
            stack.callback(server.stop)
            return server

        directory = ("--models-dir", str(models.directory))
        upstream = start("model server", "model_server", *directory, "--poll-interval-s", "0.2")
        asking = ("query_service", "serve", "--model-server", upstream.address, "--model")
        services = {
            f"query service, {name}": start(
                name, *asking, name, "--seen-store", "none", "--timeout-s", "20"
            )
            for name in MODEL_NAMES
        }
        processes = {
            name: server.process for name, server in {"model server": upstream, **services}.items()
        }
        status = stack.enter_context(_status(upstream.address))
        load.append(stack.enter_context(Load([one.address for one in services.values()])))
        yield _resident(processes)
        for version in range(2, count + 2):
            models.publish(version)
            _wait(status, version)
            models.remove(version - 1)
            yield _resident(processes)


@contextmanager
def _status(address: str) -> Iterator[Any]:
    with grpc.insecure_channel(address) as channel:
        yield channel.unary_unary(
            "/tensorflow.serving.ModelService/GetModelStatus",
            request_serializer=tfserving.GetModelStatusRequest.SerializeToString,
            response_deserializer=tfserving.GetModelStatusResponse.FromString,
        )


def _wait(status: Any, version: int) -> None:
    """Until the version answers and the one before is freed, of both models."""
    end = time.monotonic() + _SWAP_TIMEOUT_S
    wanted = {version: tfserving.ModelVersionStatus.AVAILABLE}
    for name in MODEL_NAMES:
        request = tfserving.GetModelStatusRequest(model_spec=tfserving.ModelSpec(name=name))
        while True:
            answer = status(request, timeout=10)
            states = {one.version: one.state for one in answer.model_version_status}
            ended = tfserving.ModelVersionStatus.END
            if {number: state for number, state in states.items() if state != ended} == wanted:
                break
            if time.monotonic() > end:
                raise Failed(f"{name}/{version} is not served after {_SWAP_TIMEOUT_S} s: {states}")
            time.sleep(0.05)


def _resident(processes: Mapping[str, psutil.Process]) -> dict[str, float]:
    return {name: one.memory_info().rss / 1024**2 for name, one in processes.items()}


def grown(samples: list[Mapping[str, float]]) -> list[str]:
    """Which processes have grown by more than they may, for people."""
    return [
        f"{name}: {samples[-1][name]:,.0f} MiB after {len(samples) - 1} swaps, "
        f"{before:,.0f} MiB after {SETTLED}"
        for name, before in samples[SETTLED].items()
        if samples[-1][name] > GROWTH * before
    ]


def main() -> int:
    """Measure; 1 where it does not stay."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--swaps", type=int, default=30)
    arguments = parser.parse_args()
    if arguments.swaps <= SETTLED:
        parser.error(f"--swaps must be above {SETTLED}")
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        models_dir = arguments.models_dir
        if models_dir is None:
            models_dir = work / "made"
            service_model.make(models_dir, arguments.items, 2_000, 32, console)
        samples: list[Mapping[str, float]] = []
        loads: list[Load] = []
        for sample in swaps(models_dir, work, arguments.swaps, loads):
            if not samples:
                console.print("MiB  " + ", ".join(sample))
            console.print(
                f"{len(samples):3}  " + "  ".join(f"{mib:8,.1f}" for mib in sample.values())
            )
            samples.append(sample)
        [load] = loads
    wrong = [*grown(samples), *(f"failed: {one}" for one in load.failed[:3])]
    console.print(f"{load.answered:,} requests answered, {len(load.failed):,} failed")
    for one in wrong:
        console.print(one)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
