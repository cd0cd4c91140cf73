"""The ``health`` command: checks whether a running service can answer requests."""

import argparse
from typing import Any

from query_service.cli.options import add_service_options, fail
from query_service.errors import UnusableFile
from rpc import credentials

add_arguments = add_service_options


def run(parsed: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Return 0 if the service is SERVING, else 1."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    try:
        client_credentials = credentials.read(parsed)
    except UnusableFile as error:
        return fail(str(error))
    with credentials.open_channel(parsed.address, client_credentials) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=parsed.timeout_s)
        except grpc.RpcError as error:
            return fail(f"{parsed.address}: {error.code().name}: {error.details()}")
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return 0 if serving else fail(f"{parsed.address}: not serving")
