"""The ``token`` command: creates a token for a caller."""

import argparse

from rpc import tokens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument for the caller's name."""
    parser.add_argument(
        "name", metavar="NAME", help="Name of the caller: letters, digits, _ and -."
    )


def run(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print a new token, and the lines for the token file of the service."""
    try:
        token, lines = tokens.new_token(parsed.name)
    except ValueError as error:
        parser.error(str(error))
    print(  # noqa: T201
        f"This is the caller's token, which is not shown again:\n\n{token}\n\n"
        f"Add these lines to the file that serve reads with --tokens:\n\n{lines}"
    )
    return 0
