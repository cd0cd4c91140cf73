"""Chroma as a peer of benchmarks.service: its own server, asked over HTTP by vector.

The collection is made once with Chroma's defaults and kept in the work directory. ef is climbed
until it finds as much as our index does; the server reads it when it starts.
"""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.service.catalogue import Catalogue, Question
from benchmarks.service.load import Failed, Request
from benchmarks.service.peer import Peer, http_call
from benchmarks.service.processes import Machinery, Server, environment

_COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
#: Chroma searches with no less than the number that is asked for.
_EFS = (100, 150, 225, 340, 500)
#: So much less than ours is as good.
_TOLERANCE = 0.005
_MADE = "made.json"
_MORE, _WHERE = "k + exclusions, filtered by the caller", "where $nin"


class Chroma(Peer):
    """A vector database; the caller knows the user's vector."""

    needs = ("chromadb",)
    ways = (_MORE, _WHERE)
    decides = "100 excluded"

    def __init__(self, target: float) -> None:
        """``target``: the recall to reach."""
        super().__init__()
        self._collection = ""
        self._target = target

    def start(self, machinery: Machinery) -> None:
        """See the base class. Builds the collection when there is none; chooses ef."""
        directory = machinery.work / "chroma"
        _build(machinery.catalogue, directory)
        for ef in _EFS:
            server = self._run(machinery, directory)
            configuration = {"new_configuration": {"hnsw": {"ef_search": ef}}}
            self._ask("PUT", f"/{self._collection}", configuration)
            server.stop()
            server = self._run(machinery, directory)
            self.recall = self.measure_recall(machinery.catalogue)
            self.note = f"ef {ef}"
            if self.recall >= self._target - _TOLERANCE:
                break
            if ef != _EFS[-1]:
                server.stop()
        self.parts = {"service": server.process}

    def request(self, question: Question) -> Request:
        """See the base class."""
        asked: dict[str, Any] = {
            "query_embeddings": [question.vector],
            "n_results": question.k,
            "include": ["distances"],
        }
        if question.exclude and self.way == _WHERE:
            asked["where"] = {"item_id": {"$nin": question.exclude}}
        elif question.exclude:
            asked["n_results"] += len(question.exclude)
        path = f"{_COLLECTIONS}/{self._collection}/query"
        return Request(path, json.dumps(asked).encode(), http1=True)

    def read(self, body: bytes, question: Question) -> list[str]:
        """See the base class. What the caller does to the answer is not in the load."""
        ids = [one for one in json.loads(body)["ids"][0] if one not in question.exclude]
        return ids[: question.k] if self.way == _MORE else json.loads(body)["ids"][0]

    def call(self, request: Request) -> bytes:
        """See the base class."""
        return http_call(self.address, "POST", request.path, request.body)

    def _run(self, machinery: Machinery, directory: Path) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        program = "from chromadb.cli.cli import app; app()"
        options = ["run", "--path", str(directory), "--host", "127.0.0.1", "--port", str(port)]
        server = machinery.start("chroma", ["-c", program, *options], self._answers)
        self._collection = self._ask("GET", "/items")["id"]
        return server

    def _answers(self, said: str) -> str | None:
        del said
        try:
            http_call(self.address, "GET", "/api/v2/heartbeat")
        except Failed:
            return None
        return self.address

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        sent = json.dumps(body).encode() if body else b""
        answer: dict[str, Any] = json.loads(
            http_call(self.address, method, _COLLECTIONS + path, sent)
        )
        return answer


def _build(catalogue: Catalogue, directory: Path) -> None:
    """Make the collection in a process of its own, unless it is there."""
    made = directory / _MADE
    shape = json.dumps({"items": catalogue.items, "dimensions": catalogue.dims})
    if made.exists() and made.read_text(encoding="utf-8") == shape:
        return
    shutil.rmtree(directory, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.service.servers", "build-chroma"]
    command += [str(catalogue.models_dir), str(directory)]
    built = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if built.returncode:
        raise Failed(f"the collection cannot be built: {built.stderr.strip()[-500:]}")
    # Last: whoever finds it finds the rest.
    made.write_text(shape, encoding="utf-8")
