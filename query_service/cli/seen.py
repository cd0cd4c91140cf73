"""The ``seen`` command: reads and changes a seen store directly, without a running service."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path

from query_service.cli.options import fail
from query_service.cli.seen_files import InvalidInput, check_id, read_pairs
from query_service.errors import RetrievalError
from query_service.stores import FORMS, NONE, open_store
from query_service.stores.base import Store

#: The number of pairs to record at a time. Larger batches would delay running services.
_BATCH_SIZE = 1_000

_FORGET_NOTICE = (
    "This command does not change the trainer's data, versions other than the served one, or "
    "backups. If the trainer's data contains the user, the next publication restores these items."
)

#: Runs an action of the command and returns its exit status.
_Action = Callable[[Store, argparse.Namespace], Awaitable[int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their arguments."""
    store_option = argparse.ArgumentParser(add_help=False)
    store_option.add_argument(
        "--seen-store",
        default=os.environ.get("SHORTLIST_SEEN_STORE") or NONE,
        metavar="STORE",
        help=f"The seen store: {FORMS}. (default: SHORTLIST_SEEN_STORE, or none)",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def add_action(name: str, action: _Action, text: str) -> argparse.ArgumentParser:
        subparser = actions.add_parser(name, help=text, description=text, parents=[store_option])
        subparser.set_defaults(action=action)
        return subparser

    import_parser = add_action(
        "import", _import, "Record all pairs in a file. Importing the same file again is harmless."
    )
    import_parser.add_argument(
        "file",
        type=Path,
        help="A CSV file with the columns user_id and item_id, or the trainer's seen.sqlite.",
    )
    add_parser = add_action("add", _add, "Record that a user has seen items.")
    show_parser = add_action("show", _show, "Print the ids of the items that a user has seen.")
    forget_parser = add_action("forget", _forget, "Erase all of a user's seen items.")
    for subparser in (add_parser, show_parser, forget_parser):
        subparser.add_argument("user", help="Id of the user.")
    add_parser.add_argument("items", nargs="+", metavar="item", help="Id of an item.")


def run(parsed: argparse.Namespace, _parser: argparse.ArgumentParser) -> int:
    """Run an action; return 0, or 1 with a message on standard error."""
    try:
        return asyncio.run(_run(parsed))
    except (InvalidInput, RetrievalError, ValueError) as error:
        return fail(str(error))


async def _run(parsed: argparse.Namespace) -> int:
    store = open_store(parsed.seen_store)
    try:
        action: _Action = parsed.action
        return await action(store, parsed)
    finally:
        await store.close()


async def _import(store: Store, parsed: argparse.Namespace) -> int:
    path: Path = parsed.file
    # Read the whole file first, so that nothing is recorded if it is invalid.
    total = sum(1 for _ in read_pairs(path))
    pairs = read_pairs(path)
    recorded = new = 0
    try:
        while batch := list(islice(pairs, _BATCH_SIZE)):
            new += await store.record(batch)
            recorded += len(batch)
    except RetrievalError as error:
        return fail(f"{error}\nrecorded {recorded:,} of {total:,} pairs: run the import again")
    _report(f"{path}: recorded {recorded:,} pairs, of which {new:,} are new")
    return 0


async def _add(store: Store, parsed: argparse.Namespace) -> int:
    check_id("the user id", parsed.user)
    for item_id in parsed.items:
        check_id(f"the item id {item_id!r}", item_id)
    new = await store.record([(parsed.user, item_id) for item_id in parsed.items])
    _report(f"recorded {len(parsed.items):,} items, of which {new:,} are new")
    return 0


async def _show(store: Store, parsed: argparse.Namespace) -> int:
    check_id("the user id", parsed.user)
    item_ids = sorted(await store.seen(parsed.user) or ())
    # Write bytes, because the terminal's encoding may not be UTF-8.
    sys.stdout.buffer.write(b"".join(item_id + b"\n" for item_id in item_ids))
    sys.stdout.buffer.flush()
    if not item_ids:
        _report("the store has no seen items for this user")
    return 0


async def _forget(store: Store, parsed: argparse.Namespace) -> int:
    check_id("the user id", parsed.user)
    outcomes = await store.forget(parsed.user)
    for place, count, failure in outcomes:
        _report(f"{place}: " + (f"not erased: {failure}" if failure else f"erased {count:,} items"))
    _report(_FORGET_NOTICE)
    return 1 if any(outcome.failure for outcome in outcomes) else 0


def _report(text: str) -> None:
    """Print a message to standard error, because standard output is for item ids only."""
    sys.stderr.write(f"{text}\n")
