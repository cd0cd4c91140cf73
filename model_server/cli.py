"""The model server's command line: a local stand-in for TensorFlow Serving."""

import argparse
import logging
import os
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; 0, or 1 with a message on standard error."""
    parser = argparse.ArgumentParser(prog="python -m model_server", description=__doc__)
    add = parser.add_argument
    add("--models-dir", type=Path, required=True, metavar="DIR")
    add("--port", type=int, default=8500, help="0: any free one, printed")
    add("--host", default="127.0.0.1")
    add("--model", action="append", default=[], metavar="NAME", help="only these; repeatable")
    add("--require-manifest", action="store_true", help="serve no version without manifest.json")
    add(
        "--ssl-config-file",
        type=Path,
        metavar="FILE",
        help="serve with TLS: TensorFlow Serving's SSLConfig, in protobuf's text format",
    )
    add("--poll-interval-s", type=float, default=1.0, help="how often versions are looked for")
    add("--max-workers", type=int, default=4 * (os.cpu_count() or 1), help="threads for requests")
    add("--max-concurrent-rpcs", type=int, default=1024, help="beyond: RESOURCE_EXHAUSTED")
    add("--grace-s", type=float, default=10.0, help="for requests under way at the end")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # After the arguments are checked: TensorFlow takes seconds to import.
    from model_server.server import Settings, StartError, serve

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    _register_scann_ops()
    settings = Settings(
        models_dir=parsed.models_dir,
        host=parsed.host,
        port=parsed.port,
        models=tuple(parsed.model),
        require_manifest=parsed.require_manifest,
        ssl_config_file=parsed.ssl_config_file,
        poll_interval_s=parsed.poll_interval_s,
        max_workers=parsed.max_workers,
        max_concurrent_rpcs=parsed.max_concurrent_rpcs,
        grace_s=parsed.grace_s,
    )
    try:
        serve(settings)
    except StartError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _register_scann_ops() -> None:
    try:
        import scann  # noqa: F401
    except ImportError:
        logging.getLogger(__name__).warning("ScaNN is not installed: only exact models load")
