"""Chroma as a peer: its server is queried over HTTP with the user's vector."""

import json
import shutil
import sys
from typing import Any

from benchmarks.service.catalogue import UserRequest
from benchmarks.service.deployment import Deployment
from benchmarks.service.peers import JsonPeer
from benchmarks.vectors import K
from tools.h2load import Request
from tools.processes import free_port

_COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
#: The number of items that one call adds, which is below Chroma's limit.
_BATCH = 5_000


class Chroma(JsonPeer):
    """A vector database with its default settings, whose caller knows the user's vector.

    With n exclusions, the caller requests n more results and drops the excluded ones.
    """

    def start(self, deployment: Deployment) -> None:
        directory = deployment.work / "chroma"
        shutil.rmtree(directory, ignore_errors=True)
        port = free_port()
        address = f"127.0.0.1:{port}"
        options = ["run", "--path", str(directory), "--host", "127.0.0.1", "--port", f"{port}"]
        deployment.start(
            "chroma",
            [sys.executable, "-c", "from chromadb.cli.cli import app; app()", *options],
            ready=lambda output: address if "listening on" in output.lower() else None,
        )
        self.address = address
        configuration = {"hnsw": {"space": "ip"}}
        collection = self._post("", {"name": "items", "configuration": configuration})
        self._path = f"/{collection['id']}"
        catalogue = deployment.catalogue
        for start in range(0, len(catalogue.item_ids), _BATCH):
            rows = slice(start, start + _BATCH)
            embeddings = catalogue.item_vectors[rows].tolist()
            items = {"ids": catalogue.item_ids[rows], "embeddings": embeddings}
            self._post(f"{self._path}/add", items)

    def request(self, user_request: UserRequest) -> Request:
        body = {
            "query_embeddings": [user_request.vector],
            "n_results": K + len(user_request.exclude),
            "include": ["distances"],
        }
        path = f"{_COLLECTIONS}{self._path}/query"
        return Request(path, json.dumps(body).encode(), http1=True)

    def read(self, body: bytes, user_request: UserRequest) -> list[str]:
        # The measurement does not include the time for dropping excluded items.
        ids: list[str] = json.loads(body)["ids"][0]
        return [item_id for item_id in ids if item_id not in user_request.exclude][:K]

    def _post(self, path: str, body: object) -> dict[str, Any]:
        answer = self.call(Request(_COLLECTIONS + path, json.dumps(body).encode(), http1=True))
        decoded: dict[str, Any] = json.loads(answer)
        return decoded
