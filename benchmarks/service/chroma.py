"""Chroma as a peer: its own server, which is asked over HTTP with the user's vector."""

import json
import shutil
import sys
from typing import Any

from benchmarks.service.catalogue import Question
from benchmarks.service.deployment import Deployment
from benchmarks.service.load import MeasurementError
from benchmarks.service.peers import JsonPeer, http_call
from benchmarks.vectors import K
from tools.h2load import Request
from tools.processes import free_port

_COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
#: Items added in one call, below Chroma's limit.
_BATCH = 5_000


class Chroma(JsonPeer):
    """A vector database whose caller knows the user's vector, with Chroma's defaults.

    If items are excluded, it is asked for as many more results, and the caller drops those that
    are excluded.
    """

    needs = ("chromadb",)

    def start(self, deployment: Deployment) -> None:
        directory = deployment.work / "chroma"
        shutil.rmtree(directory, ignore_errors=True)
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        program = "from chromadb.cli.cli import app; app()"
        options = ["run", "--path", str(directory), "--host", "127.0.0.1", "--port", str(port)]
        deployment.start("chroma", [sys.executable, "-c", program, *options], self._when_ready)
        configuration = {"hnsw": {"space": "ip"}}
        collection = self._post("", {"name": "items", "configuration": configuration})
        self._path = f"/{collection['id']}"
        catalogue = deployment.catalogue
        for start in range(0, len(catalogue.item_ids), _BATCH):
            rows = slice(start, start + _BATCH)
            embeddings = catalogue.item_vectors[rows].tolist()
            items = {"ids": catalogue.item_ids[rows], "embeddings": embeddings}
            self._post(f"{self._path}/add", items)

    def request(self, question: Question) -> Request:
        body = {
            "query_embeddings": [question.vector],
            "n_results": K + len(question.exclude),
            "include": ["distances"],
        }
        path = f"{_COLLECTIONS}{self._path}/query"
        return Request(path, json.dumps(body).encode(), http1=True)

    def read(self, body: bytes, question: Question) -> list[str]:
        # Dropping the excluded items is not part of the measurement.
        ids: list[str] = json.loads(body)["ids"][0]
        return [one for one in ids if one not in question.exclude][:K]

    def _when_ready(self, output: str) -> str | None:
        try:
            http_call(self.address, "GET", "/api/v2/heartbeat")
        except MeasurementError:
            return None
        return self.address

    def _post(self, path: str, body: object) -> dict[str, Any]:
        answer = http_call(self.address, "POST", _COLLECTIONS + path, json.dumps(body).encode())
        decoded: dict[str, Any] = json.loads(answer)
        return decoded
