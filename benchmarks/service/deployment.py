"""The servers of the comparison: one model server, the query service, and those of the peers."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from benchmarks.service.catalogue import Catalogue
from serving_contract import RETRIEVAL, SEEN_SQLITE
from tools.processes import Server, printed_address, python_module


class Deployment:
    """Starts servers, which are stopped when ``stack`` is closed.

    Attributes:
        catalogue: what the servers are asked for.
        work: directory for logs and indexes.
    """

    def __init__(
        self, catalogue: Catalogue, work: Path, stack: ExitStack, serve_options: Sequence[str]
    ) -> None:
        """``serve_options`` are more options of ``query_service serve``."""
        self.catalogue, self.work = catalogue, work
        self._stack, self._serve_options = stack, serve_options

    def start(
        self,
        name: str,
        command: Sequence[str],
        ready: Callable[[str], str | None] = printed_address,
    ) -> Server:
        """Start a server."""
        server = Server(command, log=self.work / f"{name}.log", ready=ready)
        return self._stack.enter_context(server)

    def start_peer(self, name: str, *arguments: str) -> Server:
        """Start a server of ``benchmarks.service.servers``."""
        return self.start(name, python_module("benchmarks.service.servers", name, *arguments))

    @cached_property
    def model_server(self) -> Server:
        """The model server, which all peers that need one share."""
        models = ("--models-dir", str(self.catalogue.models_dir), "--model", RETRIEVAL)
        return self.start("model-server", python_module("model_server", *models, "--port", "0"))

    def start_query_service(self, name: str = "shortlist") -> Server:
        """Start a query service with the seen store."""
        upstream = ("--model-server", self.model_server.address)
        store = ("--seen-store", f"sqlite:{self.catalogue.models_dir / SEEN_SQLITE}")
        options = (*upstream, *store, *self._serve_options)
        return self.start(name, python_module("query_service serve", "--port", "0", *options))
