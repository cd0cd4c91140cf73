"""The ``serve`` command: runs the query service."""

import argparse
import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import Field, fields, replace
from typing import Any

from config_fields import read_text, rule_of

# None of these modules imports gRPC, which must not be imported before workers are forked.
from query_service.cli.options import fail
from query_service.errors import StartError
from query_service.heartbeat import Heartbeat
from query_service.process.cpus import usable_cpus
from query_service.process.sockets import reserve
from query_service.process.supervisor import supervise
from query_service.settings import Settings
from query_service.stores import printable
from query_service.telemetry import logs
from query_service.telemetry.registry import SharedSamples
from rpc.addresses import check_exposure, host_port

_EPILOG = """Every flag is also an environment variable: --model-server is SHORTLIST_MODEL_SERVER,
and so on. A flag overrides its variable, and an empty variable counts as not set."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting."""
    parser.epilog = _EPILOG
    for setting in fields(Settings):
        variable = f"SHORTLIST_{setting.name.upper()}"
        default_text = "none" if setting.default == "" else setting.default
        # A bool flag without a value means True.
        optional: dict[str, Any] = {"nargs": "?", "const": True} if setting.default is False else {}
        parser.add_argument(
            Settings.display_name(setting.name),
            # argparse converts a string default like a value from the command line.
            default=os.environ.get(variable) or setting.default,
            type=_reader(setting),
            metavar=setting.name.rpartition("_")[2].upper(),
            **optional,
            help=f"{rule_of(setting).help} (default: {default_text})",
        )


def run(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Serve until SIGTERM or SIGINT; return 0, or 1 if the service could not start."""
    try:
        values = {field.name: getattr(parsed, field.name) for field in fields(Settings)}
        settings = Settings(**values)
    except ValueError as error:
        parser.error(str(error))
    logs.set_up(settings.log_format)
    try:
        return _serve(settings)
    except (StartError, ValueError) as error:
        return fail(str(error))


def _reader(setting: "Field[Any]") -> Callable[[str], Any]:
    """Return an argparse type that converts text to the type of a setting."""

    def read(text: str) -> Any:
        if setting.name == "workers" and text == "auto":
            return usable_cpus()
        try:
            return read_text(setting, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _serve(settings: Settings) -> int:
    """Serve in this process, or in several worker processes. Return the exit status."""
    count = settings.workers
    if not settings.insecure:
        check_exposure(
            settings.host,
            settings.port,
            tls=bool(settings.tls_cert),
            client_certificates=bool(settings.tls_client_ca),
            tokens=bool(settings.tokens),
        )
    Heartbeat(settings.heartbeat_file).check()
    samples = SharedSamples(count)

    def announce(port: int) -> None:
        print(  # noqa: T201
            f"query service ready on {host_port(settings.host, port)}: model {settings.model} "
            f"at {settings.model_server}, seen store {printable(settings.seen_store)}"
            + (f", {count} workers" if count > 1 else ""),
            flush=True,
        )

    def run_worker(worker: int, port: int, on_ready: Callable[[int], None]) -> None:
        from query_service.server import serve

        asyncio.run(serve(replace(settings, port=port), on_ready, samples=samples, worker=worker))

    if count == 1:
        run_worker(0, settings.port, announce)
        return 0
    extra_sockets: list[socket.socket] = []
    if settings.metrics_port:
        # Reserve the metrics port, too, so that no other program takes it.
        extra_sockets, _ = reserve(settings.metrics_host, settings.metrics_port)
    return supervise(
        count,
        run_worker,
        settings.host,
        settings.port,
        grace_s=settings.lame_duck_s + settings.grace_s,
        on_ready=announce,
        on_end=samples.mark_ended,
        extra_sockets=extra_sockets,
    )
