"""A Redis server on a free port of this machine."""

from pathlib import Path

from tools.processes import Server, free_port


class RedisServer(Server):
    """A redis-server process that keeps its data when it is killed and started again.

    Attributes:
        port: the TCP port, the same for every start.
        url: what the query service takes as ``--seen-store``.
    """

    def __init__(self, directory: Path, *options: str, tls: bool = False) -> None:
        """Start Redis with the data in ``directory``, which has to exist."""
        self.port = free_port()
        self.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{self.port}/0"
        ports = ["--port", "0", "--tls-port"] if tls else ["--port"]
        # Every write is on disk before it is acknowledged.
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        place = ["--bind", "127.0.0.1", "--dir", str(directory)]
        super().__init__(
            ["redis-server", *ports, f"{self.port}", *durable, *place, *options],
            log=directory / "redis-server.log",
            ready=self._ready_address,
        )

    def _ready_address(self, output: str) -> str | None:
        return f"127.0.0.1:{self.port}" if "Ready to accept connections" in output else None
