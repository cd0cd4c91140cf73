"""The environment that all scenarios share: the model, the servers, and the load."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from benchmarks import serving
from benchmarks.chaos.checks import Check, at_most, require
from benchmarks.chaos.load import SteadyLoad
from benchmarks.chaos.requests import CandidateCheck, KnownIds, Request, for_users
from benchmarks.reporting import percentile
from tools.processes import Server

_SEND_DELAY_MS = 50


@dataclass(frozen=True)
class Environment:
    """Starts the servers and the load of a scenario, with the settings of a run.

    Attributes:
        models_dir: the directory of a published model.
        work: the directory for logs and other files of the scenarios.
        rate: requests per second.
        deadline_s: the deadline of each request.
        fuzzed: the number of fuzzed requests.
        nice: the nice value of a model server that is restarted under load. A start uses whole
            cores for some seconds; here it only gets what the load and the service leave.
        patience: a factor for bounds on durations, above 1 in tests, which run on busy machines.
        steady_s: seconds of load before a failure, and after the recovery.
        down_s: seconds from a kill until the server is restarted.
        paused_s: seconds for which a process is paused.
        overload_s: seconds of overload per round.
        soak_s: seconds of mixed load.
    """

    models_dir: Path
    work: Path
    rate: float = 500.0
    deadline_s: float = 1.0
    fuzzed: int = 100_000
    nice: int = 10
    patience: float = 1.0
    steady_s: float = 5.0
    down_s: float = 5.0
    paused_s: float = 3.0
    overload_s: float = 30.0
    soak_s: float = 600.0

    @cached_property
    def known(self) -> KnownIds:
        """Ids of users and items in the model."""
        return KnownIds(self.models_dir)

    def model_server(self, name: str, *options: str, models_dir: Path | None = None) -> Server:
        """Start a model server."""
        return serving.start_model_server(
            models_dir or self.models_dir,
            self._log(f"{name}-models"),
            *options,
            restart_nice=self.nice,
        )

    def service(self, name: str, *model_servers: Server, options: Iterable[str] = ()) -> Server:
        """Start a query service that calls ``model_servers``."""
        return serving.start_query_service(self._log(name), model_servers, *options)

    @contextmanager
    def servers(self, name: str, *options: str) -> Iterator[tuple[Server, Server]]:
        """Run a model server, and a query service with these options that calls it."""
        with (
            self.model_server(name) as models,
            self.service(name, models, options=options) as service,
        ):
            yield models, service

    @contextmanager
    def running(
        self, name: str, *options: str, requests: Iterable[Request] | None = None
    ) -> Iterator[tuple[Server, Server, SteadyLoad]]:
        """Run a model server, a query service, and a steady load on the query service."""
        with (
            self.servers(name, *options) as (models, service),
            self.load(service, requests=requests) as load,
        ):
            yield models, service, load

    def load(
        self,
        *services: Server,
        requests: Iterable[Request] | None = None,
        rate: float | None = None,
        check: CandidateCheck | None = None,
    ) -> SteadyLoad:
        """Return a steady load on ``services``. The load starts when its block begins."""
        return SteadyLoad(
            [service.address for service in services],
            for_users(self.known) if requests is None else requests,
            rate=rate or self.rate,
            deadline_s=self.deadline_s,
            check=check,
        )

    def check_send_delay(self, outcomes: pd.DataFrame) -> Check:
        """Check that the load generator sent requests on time.

        If requests were late, the machine was too busy, and the other measurements mean little.

        Raises:
            ScenarioError: no request was sent.
        """
        require(outcomes, "at all")
        p99_ms = 1e3 * percentile(outcomes.sent - outcomes.due, 99)
        what = f"requests: {len(outcomes):,}; p99 of their send delay"
        return at_most(what, p99_ms, _SEND_DELAY_MS * self.patience, "ms", 1)

    def _log(self, name: str) -> Path:
        """Return the path of a server's log file."""
        logs = self.work / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        return logs / f"{name}.log"
