"""The actions of ``python -m query_service seen``."""

import argparse
import asyncio
import sys
from itertools import islice
from pathlib import Path

from query_service.cli.options import fail
from query_service.cli.seen.reading import ReadError, check_id, read_pairs
from query_service.errors import RetrievalError
from query_service.stores import open_store
from query_service.stores.base import Store

#: Pairs to record at a time. With more, a service that records meanwhile would have to wait.
_BATCH = 1_000

_NOT_ERASED = (
    "not checked: the trainer's data, which bring the user back at the next publication; other "
    "stored versions; backups"
)


def run(parsed: argparse.Namespace) -> int:
    """Run an action; return 0, or 1 with a message on standard error."""
    try:
        return asyncio.run(_run(parsed))
    except (ReadError, RetrievalError, ValueError) as error:
        return fail(str(error))


async def _run(parsed: argparse.Namespace) -> int:
    if parsed.action == "import":
        # Read everything first, so that nothing of an invalid file is recorded.
        count = sum(1 for _ in read_pairs(Path(parsed.file)))
    else:
        check_id("the user id", parsed.user)
    for item in parsed.items if parsed.action == "add" else ():
        check_id(f"the item id {item!r}", item)
    store = open_store(parsed.seen_store)
    try:
        match parsed.action:
            case "import":
                return await _import(store, Path(parsed.file), count)
            case "add":
                new = await store.record([(parsed.user, item) for item in parsed.items])
                _report(f"recorded {len(parsed.items):,}, of which {new:,} are new")
                return 0
            case "show":
                return await _show(store, parsed.user)
            case _:
                return await _forget(store, parsed.user)
    finally:
        await store.close()


async def _import(store: Store, path: Path, count: int) -> int:
    pairs = read_pairs(path)
    done = new = 0
    try:
        while batch := list(islice(pairs, _BATCH)):
            new += await store.record(batch)
            done += len(batch)
    except RetrievalError as error:
        return fail(f"{error}\nrecorded {done:,} of {count:,}: repeat the import")
    _report(f"{path}: recorded {done:,}, of which {new:,} are new")
    return 0


async def _show(store: Store, user_id: str) -> int:
    items = sorted(await store.seen(user_id) or ())
    # As bytes, whatever the encoding of the terminal.
    sys.stdout.buffer.write(b"".join(item + b"\n" for item in items))
    sys.stdout.buffer.flush()
    if not items:
        _report("the store knows nothing about this user")
    return 0


async def _forget(store: Store, user_id: str) -> int:
    outcomes = await store.forget(user_id)
    for place, items, failure in outcomes:
        _report(
            f"{place}: not erased: {failure}" if failure else f"{place}: erased {items:,} items"
        )
    _report(_NOT_ERASED)
    return 1 if any(one.failure for one in outcomes) else 0


def _report(text: str) -> None:
    sys.stderr.write(f"{text}\n")
