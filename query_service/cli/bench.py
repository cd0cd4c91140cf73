"""``python -m query_service bench``: a load test of a running service."""

import argparse

from query_service import load_test
from query_service.cli.options import add_service_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the load test and of the service."""
    load_test.add_options(parser)
    add_service_options(parser)


run = load_test.run
