"""Parses the command line and dispatches to the commands."""

import argparse

from query_service.cli import ask, bench, health, seen, serve, token

_COMMANDS = (
    ("serve", serve, "Run the query service."),
    ("ask", ask, "Ask a running service for candidates."),
    ("health", health, "Exit with 0 if a running service can answer, else with 1."),
    ("bench", bench, "Run a load test against a running service."),
    ("seen", seen, "Import, add, show or forget what users have seen."),
    ("token", token, "Create a token for a caller."),
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0, or 1 with a message on standard error."""
    parser = make_parser()
    parsed = parser.parse_args(arguments)
    status: int = parsed.run(parsed, parser)
    return status


def make_parser() -> argparse.ArgumentParser:
    """Return the parser for all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m query_service", description="The query service and its tools."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module, text in _COMMANDS:
        command = commands.add_parser(name, help=text, description=text)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser
