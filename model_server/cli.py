"""The command line of the model server."""

import argparse
import dataclasses
import logging
import os
import sys
from pathlib import Path

from config_fields import rule_of
from model_server.settings import Settings
from rpc.errors import StartError

_DESCRIPTION = "Serve the models under a directory with TensorFlow Serving's gRPC API."


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Return 0, or 1 after an error message on stderr."""
    parser = make_parser()
    try:
        settings = Settings(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Importing TensorFlow takes seconds, so it happens only after usage errors are reported.
    from model_server.server import serve

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    _register_scann_ops()
    try:
        serve(settings)
    except StartError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m model_server", description=_DESCRIPTION)
    parser.add_argument(
        "--models-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="Directory with one subdirectory per model, which has one subdirectory per version.",
    )
    parser.add_argument(
        "--model",
        dest="models",
        action="append",
        default=[],
        metavar="NAME",
        help="Serve only this model. Can be repeated. Default: every model in the directory.",
    )
    for field in dataclasses.fields(Settings):
        # models_dir and models, which have no metadata, were added above.
        if not field.metadata:
            continue
        flag, text = Settings.display_name(field.name), rule_of(field).help
        if field.default is False:
            parser.add_argument(flag, action="store_true", help=text)
        elif field.default is None:
            parser.add_argument(flag, type=Path, metavar="FILE", help=text)
        else:
            help_ = f"{text} Default: %(default)s."
            parser.add_argument(flag, type=type(field.default), default=field.default, help=help_)
    return parser


def _register_scann_ops() -> None:
    try:
        import scann  # noqa: F401
    except ImportError:
        logging.getLogger(__name__).warning(
            "ScaNN is not installed, so only models with an exact index can be loaded"
        )
