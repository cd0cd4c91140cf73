"""The query service's command line. Every flag of ``serve`` is also an environment variable:
``--model-server`` is SHORTLIST_MODEL_SERVER, and so on; flags win, and an empty variable is
none.
"""

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from query_service import load_test as bench

# Nothing that imports gRPC: `serve` forks, and gRPC must not have been imported before.
from query_service.cli import ask, seen
from query_service.errors import StartError, UnusableFile
from query_service.process.memory import limit_arenas
from query_service.process.sockets import address, reserve
from query_service.process.supervisor import supervise
from query_service.settings import Settings
from query_service.stores import printable
from query_service.telemetry import logs as log_format
from query_service.telemetry.shared_samples import Rows
from rpc import credentials, tokens
from rpc.exposure import check_exposure

_DEFAULT_ADDRESS = "127.0.0.1:50051"


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0, or 1 with a message on standard error."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    command: Any = parsed.function
    result: int = command(parsed, parser)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m query_service", description=__doc__)
    commands = parser.add_subparsers(required=True)
    serve = commands.add_parser("serve", help="answer over gRPC", epilog=__doc__)
    serve.set_defaults(function=_serve)
    for setting in fields(Settings):
        name = setting.name.replace("_", "-")
        shown = "none" if setting.default == "" else setting.default
        # A flag without a value is a yes.
        more: dict[str, Any] = {"nargs": "?", "const": True} if setting.default is False else {}
        # Compose sets what is not given to "". argparse reads a default that is text like one
        # that was typed.
        serve.add_argument(
            f"--{name}",
            default=os.environ.get(f"SHORTLIST_{setting.name.upper()}") or setting.default,
            type=setting.metadata["read"],
            **more,
            help=f"{setting.metadata['help']} (default: {shown})",
        )

    asking = commands.add_parser("ask", help="ask a running service")
    asking.set_defaults(function=_ask)
    query = asking.add_mutually_exclusive_group(required=True)
    query.add_argument("--user", metavar="ID", help="candidates for this user")
    query.add_argument("--item", metavar="ID", help="items similar to this one")
    asking.add_argument(
        "--recent",
        action="append",
        default=[],
        metavar="ID",
        help="with --user: an item of the last interactions; repeatable, newest last",
    )
    asking.add_argument("-k", type=int, default=10, metavar="N", help="how many (default: 10)")
    asking.add_argument("--exclude-seen", action="store_true", help="without what was seen")
    asking.add_argument("--viewer", default="", metavar="ID", help="with --item: seen by whom")
    asking.add_argument("--exclude", action="append", default=[], metavar="ID", help="repeatable")
    asking.add_argument("--items", type=Path, metavar="FILE", help="titles: item_id,title")
    asking.add_argument("--json", action="store_true", help="print JSON")
    _address(asking)

    health = commands.add_parser("health", help="0 if the service can answer, else 1")
    health.set_defaults(function=_health)
    _address(health)

    benching = commands.add_parser("bench", help="load a running service and measure it")
    benching.set_defaults(function=bench.run)
    bench.add_options(benching)
    _address(benching)

    seeing = commands.add_parser("seen", help="what users have seen: import, add, show, forget")
    seeing.set_defaults(function=seen.run)
    seen.add_options(seeing)
    token = commands.add_parser("token", help="make a token for a caller")
    token.set_defaults(function=_token)
    token.add_argument("name", metavar="NAME", help="of the caller: letters, digits, _ and -")
    return parser


def _address(command: argparse.ArgumentParser) -> None:
    command.add_argument("--address", default=_DEFAULT_ADDRESS, metavar="HOST:PORT")
    command.add_argument("--timeout-s", type=float, default=5.0)
    credentials.add_options(command)


def _serve(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        settings = Settings(**{one.name: getattr(parsed, one.name) for one in fields(Settings)})
    except ValueError as error:
        parser.error(str(error))
    log_format.set_up(settings.log_format)
    try:
        return _serve_with(settings)
    except (StartError, ValueError) as error:
        return _failed(str(error))


def _serve_with(settings: Settings) -> int:
    count = settings.workers
    check_exposure(settings)
    limit_arenas()
    rows = Rows(count)

    def announce(port: int) -> None:
        print(  # noqa: T201
            f"query service ready on {address(settings.host, port)}: model {settings.model} "
            f"at {settings.model_server}, seen store {printable(settings.seen_store)}"
            + (f", {count} workers" if count > 1 else ""),
            flush=True,
        )

    def run(worker: int, port: int, ready: Callable[[int], None]) -> None:
        from query_service.server import serve

        serving = serve(replace(settings, port=port), ready, rows=rows, worker=worker)
        asyncio.run(serving)

    if count == 1:
        run(0, settings.port, announce)
        return 0
    held: list[socket.socket] = []
    if settings.metrics_port:
        # As the supervisor does with the other port: nobody else may have it.
        held, _ = reserve(settings.metrics_host, settings.metrics_port)
    return supervise(
        *(count, run, settings.host, settings.port),
        grace_s=settings.lame_duck_s + settings.grace_s,
        ready=announce,
        ended=rows.ended,
        held=held,
    )


def _ask(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    import grpc

    from query_service.client import RetrievalClient

    if parsed.item and parsed.exclude_seen and not parsed.viewer:
        parser.error("--item with --exclude-seen needs --viewer: whose seen items")
    if parsed.user and parsed.viewer:
        parser.error("--viewer goes with --item")
    if parsed.item and parsed.recent:
        parser.error("--recent goes with --user")
    try:
        titles = ask.read_titles(parsed.items) if parsed.items else _titles_at_hand()
        shown = asdict(credentials.read(parsed))
        with RetrievalClient(parsed.address, parsed.timeout_s, **shown) as client:
            if parsed.user is not None:
                answer = client.for_user(
                    parsed.user,
                    parsed.k,
                    recent=parsed.recent,
                    exclude_seen=parsed.exclude_seen,
                    exclude=parsed.exclude,
                )
            else:
                viewer = parsed.viewer if parsed.exclude_seen else ""
                answer = client.for_item(
                    parsed.item, parsed.k, viewer_id=viewer, exclude=parsed.exclude
                )
    except ask.TitlesError as error:
        return _failed(f"titles cannot be read: {error}")
    except UnusableFile as error:
        return _failed(str(error))
    # An argument that is not UTF-8, a number beyond int32.
    except ValueError as error:
        return _failed(f"this cannot be asked: {error}")
    except grpc.RpcError as error:
        return _failed(f"{parsed.address}: {error.code().name}: {error.details()}")
    print((ask.as_json if parsed.json else ask.as_table)(answer, titles))  # noqa: T201
    return 0


def _titles_at_hand() -> dict[str, str]:
    path = Path(os.environ.get("SHORTLIST_ITEMS", ask.DEFAULT_ITEMS))
    return ask.read_titles(path) if path.is_file() else {}


def _health(parsed: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from query_service.client import channel

    try:
        shown = credentials.read(parsed)
    except UnusableFile as error:
        return _failed(str(error))
    with channel(parsed.address, shown) as opened:
        stub: Any = health_pb2_grpc.HealthStub(opened)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=parsed.timeout_s)
        except grpc.RpcError as error:
            return _failed(f"{parsed.address}: {error.code().name}: {error.details()}")
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return 0 if serving else _failed(f"{parsed.address}: not serving")


def _token(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        token, lines = tokens.new_token(parsed.name)
    except ValueError as error:
        parser.error(str(error))
    print(  # noqa: T201
        f"The token, for the caller; it is shown only now:\n\n{token}\n\n"
        f"For the file of tokens, serve --tokens FILE:\n\n{lines}"
    )
    return 0


def _failed(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 1
