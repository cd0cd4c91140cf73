"""Chroma as a peer: its own server, which is asked over HTTP with the user's vector.

The collection is built once with Chroma's defaults and kept in the work directory. ef is raised
until Chroma's recall reaches that of our index; the server reads ef when it starts.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.service.catalogue import EXCLUDED, Catalogue, Question
from benchmarks.service.deployment import Deployment
from benchmarks.service.load import MeasurementError
from benchmarks.service.peers import JsonPeer, http_call
from tools.h2load import Request
from tools.processes import Server, environment, free_port, python_module

_COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
#: Chroma searches with at least as much as the number of results.
_EFS = (100, 150, 225, 340, 500)
#: A recall this much below ours is good enough.
_TOLERANCE = 0.005
_MADE = "made.json"
_MORE_RESULTS, _WHERE = "k + exclusions, filtered by the caller", "where $nin"


class Chroma(JsonPeer):
    """A vector database whose caller knows the user's vector."""

    needs = ("chromadb",)
    variants = (_MORE_RESULTS, _WHERE)
    variant_question = EXCLUDED

    def __init__(self, target_recall: float) -> None:
        super().__init__()
        self._collection = ""
        self._target_recall = target_recall

    def start(self, deployment: Deployment) -> None:
        # Builds the collection if there is none, and chooses ef.
        directory = deployment.work / "chroma"
        _build(deployment.catalogue, directory)
        for ef in _EFS:
            server = self._start_server(deployment, directory)
            configuration = {"new_configuration": {"hnsw": {"ef_search": ef}}}
            self._call("PUT", f"/{self._collection}", configuration)
            server.stop()
            server = self._start_server(deployment, directory)
            self.recall = self.measure_recall(deployment.catalogue)
            self.note = f"ef {ef}"
            if self.recall >= self._target_recall - _TOLERANCE or ef == _EFS[-1]:
                break
            server.stop()
        self._use(server)

    def request(self, question: Question) -> Request:
        body: dict[str, Any] = {
            "query_embeddings": [question.vector],
            "n_results": question.k,
            "include": ["distances"],
        }
        if question.exclude and self.variant == _WHERE:
            body["where"] = {"item_id": {"$nin": question.exclude}}
        elif question.exclude:
            body["n_results"] += len(question.exclude)
        path = f"{_COLLECTIONS}/{self._collection}/query"
        return Request(path, json.dumps(body).encode(), http1=True)

    def read(self, body: bytes, question: Question) -> list[str]:
        # The caller's filter is not part of the measurement.
        ids: list[str] = json.loads(body)["ids"][0]
        if self.variant == _WHERE:
            return ids
        return [one for one in ids if one not in question.exclude][: question.k]

    def _start_server(self, deployment: Deployment, directory: Path) -> Server:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        program = "from chromadb.cli.cli import app; app()"
        options = ["run", "--path", str(directory), "--host", "127.0.0.1", "--port", str(port)]
        command = [sys.executable, "-c", program, *options]
        server = deployment.start("chroma", command, self._ready_address)
        self._collection = self._call("GET", "/items")["id"]
        return server

    def _ready_address(self, output: str) -> str | None:
        try:
            http_call(self.address, "GET", "/api/v2/heartbeat")
        except MeasurementError:
            return None
        return self.address

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body else b""
        answer = http_call(self.address, method, _COLLECTIONS + path, data)
        decoded: dict[str, Any] = json.loads(answer)
        return decoded


def _build(catalogue: Catalogue, directory: Path) -> None:
    """Build the collection in a process of its own, unless it exists."""
    made = directory / _MADE
    shape = json.dumps({"items": catalogue.items, "dimensions": catalogue.dims})
    if made.exists() and made.read_text(encoding="utf-8") == shape:
        return
    shutil.rmtree(directory, ignore_errors=True)
    arguments = ("build-chroma", str(catalogue.models_dir), str(directory))
    command = python_module("benchmarks.service.servers", *arguments)
    built = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if built.returncode:
        message = built.stderr.strip()[-500:]
        raise MeasurementError(f"the collection cannot be built: {message}")
    # Written last, so that the collection is complete if this file exists.
    made.write_text(shape, encoding="utf-8")
