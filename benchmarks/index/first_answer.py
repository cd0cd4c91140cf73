"""Measure the first answer of a model server after its start, and the memory it takes.

Starts the project's own model server on MODELS_DIR, which `python -m trainer index` has published,
and calls ``by_vector`` with k = 100, once and then 300 times more. The client is warm, because it
has asked for a model that does not exist. Prints medians over the starts and their range.
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
    """Measure and print."""
    parser = reporting.argument_parser("benchmarks.index.first_answer", __doc__)
    parser.add_argument("models_dir", type=Path, help="Directory with published models.")
    reporting.add_option(parser, "--starts", 5, "Starts of the model server")
    arguments = parser.parse_args()
    starts = [measure(arguments.models_dir.resolve()) for _ in range(arguments.starts)]
    for name, values in (
        ("first answer, ms", [first for first, _, _ in starts]),
        ("median of the later answers, ms", [later for _, later, _ in starts]),
        ("first answer relative to that median", [first / later for first, later, _ in starts]),
        ("resident memory of the model server, GB", [memory for _, _, memory in starts]),
    ):
        print(f"{name:42} {reporting.median_and_range(values, 2)}")


def measure(models_dir: Path) -> tuple[float, float, float]:
    """Return the first answer and the median of the later ones in ms, and the memory in GB."""
    dims = serving.published_dataset(models_dir)["dimensions"]
    vector = np.random.default_rng(0).normal(size=dims)
    vector /= np.linalg.norm(vector)
    query = {VECTOR: serving.tensor(tfs.DT_FLOAT, 1, dims, float_val=vector)}
    request, unknown = (
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
            predict(unknown, timeout=5)
        times_ms = []
        for _ in range(1 + _LATER_CALLS):
            begun = time.perf_counter()
            predict(request, timeout=60)
            times_ms.append((time.perf_counter() - begun) * 1e3)
        memory_gb = sum(memory_mib(server.process)) * MIB / 1e9
        return times_ms[0], statistics.median(times_ms[1:]), memory_gb


if __name__ == "__main__":
    main()
