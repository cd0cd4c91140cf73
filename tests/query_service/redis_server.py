"""A real Redis on a free port."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis

from query_service.stores.redis import KEY_PREFIX

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)


class RedisServer:
    """A process, which can be killed, stopped and started again on its port."""

    def __init__(self, directory: Path, *options: str, tls: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._directory = directory
        ports = ("--port", "0", "--tls-port") if tls else ("--port",)
        # Every write is on the disk before it is acknowledged.
        durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        self._command = ["redis-server", *ports, str(self.port), *durable, *options]
        self.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._command, "--bind", "127.0.0.1", "--dir", str(self._directory)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if "Ready to accept connections" in line:
                return
        raise AssertionError(f"redis-server did not start: {lines}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def pause(self) -> None:
        """It has its port and its connections, and does nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)

    def sees(self, user_id: str, *items: str | bytes) -> None:
        """Write as a team's pipeline would."""
        with self.client() as client:
            client.sadd(KEY_PREFIX + user_id, *items)
