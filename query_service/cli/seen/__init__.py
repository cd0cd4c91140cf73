"""``python -m query_service seen``: what users have seen, shown and changed in the store itself.

``command`` does it, ``reading`` reads what is imported. This module is all that other commands
import.
"""

import argparse
import os

from query_service.stores import FORMS, NONE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions, and their options."""
    store = argparse.ArgumentParser(add_help=False)
    store.add_argument(
        "--seen-store",
        default=os.environ.get("SHORTLIST_SEEN_STORE") or NONE,
        metavar="STORE",
        help=f"{FORMS} (default: SHORTLIST_SEEN_STORE)",
    )
    actions = parser.add_subparsers(required=True, dest="action")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text, parents=[store])

    importing = action("import", "record all pairs of a file; may be repeated")
    importing.add_argument(
        "file", help="CSV with user_id, item_id in its header, or a seen.sqlite of the trainer"
    )
    adding = action("add", "record what one user has seen")
    adding.add_argument("user")
    adding.add_argument("items", nargs="+", metavar="item")
    action("show", "print what a user has seen, one item id a line").add_argument("user")
    action("forget", "erase all that the store knows of a user").add_argument("user")


def run(parsed: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Do one of them: 0, or 1 with a message on standard error."""
    # What the other commands need not load.
    from query_service.cli.seen import command

    return command.run(parsed)
