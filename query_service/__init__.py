"""The query service turns a user id or an item id into ranked candidates, over gRPC.

It stands between the callers of the public API (proto/retrieval/v1) and TensorFlow Serving, which
ranks the catalogue. It looks up seen items, excludes what the caller does not want, batches
requests, and protects itself and the model server from overload. It imports neither TensorFlow nor
NumPy.

api/            the gRPC API: admission and overload protection, validation, encoding, statuses
core/           the retrieval logic, without gRPC and without I/O
backend/        the path to the model server: cache, batching, circuit breaker, fallback
stores/         seen items, in SQLite or Redis
telemetry/      metrics, traces and logs
process/        worker processes on one port
transport/      the fast gRPC server, optional
load_test/      the load generator of ``bench``
cli/            the commands
server.py       assembles and runs the service
grpc_server.py  chooses the gRPC server
settings.py     the settings of ``serve``
client.py       the Python client
errors.py       the exceptions
heartbeat.py    a file that shows that the service is SERVING
"""

#: pyproject.toml has the same version, but the container image does not contain that file.
VERSION = "0.1.0"
