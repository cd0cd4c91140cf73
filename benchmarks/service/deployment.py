"""Starts the model server, the query service, and the servers of the peers.

The peers are what Shortlist is compared with; see :mod:`benchmarks.service.peers`.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from benchmarks import serving
from benchmarks.service.catalogue import Catalogue
from serving_contract import SEEN_SQLITE
from tools.processes import Server, printed_address, python_module


class Deployment:
    """Starts servers, which are stopped when ``stack`` is closed.

    Attributes:
        catalogue: the items and users in the requests.
        work: the directory for logs and indexes.
    """

    def __init__(
        self, catalogue: Catalogue, work: Path, stack: ExitStack, serve_options: Sequence[str]
    ) -> None:
        """``serve_options`` are additional options of ``query_service serve``."""
        self.catalogue, self.work = catalogue, work
        self._stack, self._serve_options = stack, serve_options

    def start(
        self,
        name: str,
        command: Sequence[str],
        ready: Callable[[str], str | None] = printed_address,
    ) -> Server:
        """Start a server that logs to ``<name>.log``; :class:`Server` describes ``ready``."""
        return self._stack.enter_context(Server(command, log=self._log(name), ready=ready))

    def start_peer(self, name: str, *arguments: str) -> Server:
        """Start one of the servers in ``benchmarks.service.servers``."""
        return self.start(name, python_module("benchmarks.service.servers", name, *arguments))

    @cached_property
    def model_server(self) -> Server:
        """The model server, started on first use, for all peers that have no index."""
        server = serving.start_model_server(self.catalogue.models_dir, self._log("model-server"))
        return self._stack.enter_context(server)

    def start_query_service(self, name: str = "shortlist") -> Server:
        """Start a query service with the model's seen store."""
        store = ("--seen-store", f"sqlite:{self.catalogue.models_dir / SEEN_SQLITE}")
        server = serving.start_query_service(
            self._log(name), [self.model_server], *store, *self._serve_options
        )
        return self._stack.enter_context(server)

    def _log(self, name: str) -> Path:
        return self.work / f"{name}.log"
