"""A Redis server on a free port of 127.0.0.1."""

from pathlib import Path

from tools.processes import Server, free_port


class RedisServer(Server):
    """A redis-server process that keeps its data when it is killed and restarted.

    Attributes:
        port: the TCP port, which stays the same after a restart.
        url: the value of the query service's ``--seen-store`` option.
    """

    def __init__(self, directory: Path, *options: str, tls: bool = False) -> None:
        """Start Redis with its data in ``directory``, which must exist."""
        self.port = free_port()
        self.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{self.port}/0"
        ports = ["--port", "0", "--tls-port"] if tls else ["--port"]
        # Redis acknowledges a write only after it is on disk.
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        location = ["--bind", "127.0.0.1", "--dir", str(directory)]
        super().__init__(
            ["redis-server", *ports, f"{self.port}", *durable, *location, *options],
            log=directory / "redis-server.log",
            ready=self._ready_address,
        )

    def _ready_address(self, output: str) -> str | None:
        return f"127.0.0.1:{self.port}" if "Ready to accept connections" in output else None
