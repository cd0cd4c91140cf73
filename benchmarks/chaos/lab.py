"""What all scenarios share: the model, the load, and how to start the servers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmarks.chaos.asking import Asked, Judge
from benchmarks.chaos.catalogue import Catalogue
from benchmarks.chaos.checks import Broken, Check, at_most
from benchmarks.chaos.load import Load
from benchmarks.chaos.outcomes import Outcome
from benchmarks.chaos.processes import Server
from serving_contract import RETRIEVAL

_LATE_MS = 50


@dataclass(frozen=True)
class Times:
    """Seconds.

    Attributes:
        calm: of load before the harm, and after the recovery.
        away: until what was killed is started again.
        paused: for which a process stands still.
        overload: of twice the load.
        soak: of mixed load.
    """

    calm: float = 5.0
    away: float = 5.0
    paused: float = 3.0
    overload: float = 30.0
    soak: float = 600.0


@dataclass(frozen=True)
class Lab:
    """Where scenarios are played.

    Attributes:
        models_dir: a published model.
        work: for logs and whatever a scenario makes.
        rate: requests a second.
        deadline_s: of each request.
        fuzzed: requests of the fuzzing scenario.
        publishes: of the scenario with new versions.
        nice: of a model server that is started again, in the middle of the load. It takes whole
            cores for some seconds, which would be those of its own machine; so it gets what the
            load and the service leave.
        patience: what bounds of time are multiplied by. 1 but in tests: a machine that does other
            things as well is slow, and not wrong.
    """

    models_dir: Path
    work: Path
    rate: float = 500.0
    deadline_s: float = 1.0
    fuzzed: int = 100_000
    publishes: int = 30
    nice: int = 10
    patience: float = 1.0
    times: Times = field(default_factory=Times)

    @cached_property
    def catalogue(self) -> Catalogue:
        """What is in the model."""
        return Catalogue(self.models_dir)

    @cached_property
    def logs(self) -> Path:
        """What the servers of all scenarios have printed."""
        directory = self.work / "logs"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def on_time(self, outcomes: Sequence[Outcome]) -> Check:
        """How many requests there were, and whether the load itself kept its times.

        Where it did not, the machine has too much to do: the other figures count for little.

        Raises:
            Broken: there were none.
        """
        if not outcomes:
            raise Broken("no request was sent")
        late = sorted(one.late_s for one in outcomes)
        p99_ms = 1e3 * late[len(late) * 99 // 100]
        what = f"requests: {len(outcomes):,}; sent late by (p99)"
        return at_most(what, p99_ms, _LATE_MS * self.patience, "ms", 1)

    def model_server(self, name: str, *arguments: str, models_dir: Path | None = None) -> Server:
        """The project's own, with the ScaNN index."""
        where = ("--models-dir", str(models_dir or self.models_dir), "--model", RETRIEVAL)
        return Server.module(*(name, self.logs, "model_server", *where, *arguments), nice=self.nice)

    def service(self, name: str, *model_servers: Server, arguments: Iterable[str] = ()) -> Server:
        """A query service before model servers."""
        upstream = ("--model-server", ",".join(one.address for one in model_servers))
        return Server.module(name, self.logs, "query_service serve", *upstream, *arguments)

    def load(
        self,
        *services: Server,
        asked: Iterable[Asked],
        rate: float | None = None,
        judge: Judge | None = None,
    ) -> Load:
        """The steady load on services."""
        return Load(
            [one.address for one in services],
            asked,
            rate=rate or self.rate,
            deadline_s=self.deadline_s,
            judge=judge,
        )
