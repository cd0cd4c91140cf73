"""Measure how long a freshly started model server takes to answer its first request.

The server serves an index that `python -m trainer index` has published. A request for an unknown
model warms up the client. Then 301 requests with k = 100 go to the signature ``by_vector``. The
output has medians and ranges over several starts, and also the server's memory.
"""

import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import grpc
import numpy as np

from benchmarks import reporting, serving
from serving_contract import BY_VECTOR, RETRIEVAL, VECTOR
from tfserving_subset.v1 import prediction_pb2 as tfs
from tools.usage import MIB, memory_mib

_LATER_CALLS = 300


def main() -> None:
    """Measure several starts and print the results."""
    parser = reporting.argument_parser("benchmarks.index.cold_start_latency", __doc__)
    parser.add_argument("models_dir", type=Path, help="Directory with published models.")
    reporting.add_option(parser, "--starts", 5, "How many times to start the model server")
    arguments = parser.parse_args()
    measurements = [measure(arguments.models_dir.resolve()) for _ in range(arguments.starts)]
    for name, values in (
        ("first-request latency, ms", [first for first, _, _ in measurements]),
        ("median latency of later requests, ms", [later for _, later, _ in measurements]),
        ("ratio of the two latencies", [first / later for first, later, _ in measurements]),
        ("resident memory of the model server, GB", [memory for _, _, memory in measurements]),
    ):
        print(f"{name:42} {reporting.median_and_range(values, 2)}")


def measure(models_dir: Path) -> tuple[float, float, float]:
    """Return the first-request latency and the median of later latencies in ms, and the GB used."""
    dims = serving.published_dataset(models_dir)["dimensions"]
    vector = np.random.default_rng(0).normal(size=dims)
    vector /= np.linalg.norm(vector)
    query = {VECTOR: serving.tensor(tfs.DT_FLOAT, 1, dims, float_val=vector)}
    request, warm_up_request = (
        serving.predict_request(BY_VECTOR, query, 100, model).SerializeToString()
        for model in (RETRIEVAL, "unknown")
    )
    with (
        tempfile.TemporaryDirectory() as directory,
        serving.start_model_server(models_dir, Path(directory) / "log") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        predict = serving.method(channel, serving.PREDICT)
        with contextlib.suppress(grpc.RpcError):
            predict(warm_up_request, timeout=5)
        latencies_ms = []
        for _ in range(1 + _LATER_CALLS):
            start = time.perf_counter()
            predict(request, timeout=60)
            latencies_ms.append((time.perf_counter() - start) * 1e3)
        memory_gb = sum(memory_mib(server.process)) * MIB / 1e9
        return latencies_ms[0], statistics.median(latencies_ms[1:]), memory_gb


if __name__ == "__main__":
    main()
