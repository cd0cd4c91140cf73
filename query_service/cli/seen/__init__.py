"""``python -m query_service seen``: shows and changes seen items directly in the store.

command.py  the actions
reading.py  reads files to import

This module is all that the command line imports. The others are loaded on demand.
"""

import argparse
import os

from query_service.stores import FORMS, NONE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their arguments."""
    store = argparse.ArgumentParser(add_help=False)
    store.add_argument(
        "--seen-store",
        default=os.environ.get("SHORTLIST_SEEN_STORE") or NONE,
        metavar="STORE",
        help=f"The seen store: {FORMS}. (default: SHORTLIST_SEEN_STORE, or none)",
    )
    actions = parser.add_subparsers(required=True, dest="action", metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text, parents=[store])

    importing = action("import", "Record all pairs in a file. It may be repeated.")
    importing.add_argument(
        "file",
        help="A CSV file with the columns user_id and item_id, or a seen.sqlite of the trainer.",
    )
    adding = action("add", "Record that a user has seen items.")
    adding.add_argument("user", help="Id of the user.")
    adding.add_argument("items", nargs="+", metavar="item", help="Id of an item.")
    showing = action("show", "Print what a user has seen, one item id per line.")
    showing.add_argument("user", help="Id of the user.")
    forgetting = action("forget", "Erase everything that the store knows about a user.")
    forgetting.add_argument("user", help="Id of the user.")


def run(parsed: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Run an action; return 0, or 1 with a message on standard error."""
    from query_service.cli.seen import command

    return command.run(parsed)
