"""Does what ``python -m query_service seen`` is asked for."""

import argparse
import asyncio
import sys
from itertools import islice
from pathlib import Path

from query_service.cli.seen.reading import ReadError, check_id, pairs
from query_service.errors import RetrievalError
from query_service.stores import open_store
from query_service.stores.base import Store

#: Pairs that are recorded at a time, so that a service that records meanwhile does not wait long.
_BATCH = 1_000

_NOT_ERASED = (
    "not looked at: the trainer's data, which bring it back at the next publication; other stored "
    "versions; backups"
)


def run(parsed: argparse.Namespace) -> int:
    """0, or 1 with a message on standard error."""
    try:
        return asyncio.run(_run(parsed))
    except (ReadError, RetrievalError, ValueError) as error:
        _say(f"error: {error}")
        return 1


async def _run(parsed: argparse.Namespace) -> int:
    if parsed.action == "import":
        count = _count(Path(parsed.file))
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
                _say(f"recorded {len(parsed.items):,}, of which {new:,} are new")
                return 0
            case "show":
                return await _show(store, parsed.user)
            case _:
                return await _forget(store, parsed.user)
    finally:
        await store.close()


def _count(path: Path) -> int:
    """How many pairs there are; all are looked at, so that nothing of a wrong file is recorded."""
    return sum(1 for _ in pairs(path))


async def _import(store: Store, path: Path, count: int) -> int:
    every = pairs(path)
    done = new = 0
    try:
        while batch := list(islice(every, _BATCH)):
            new += await store.record(batch)
            done += len(batch)
    except RetrievalError as error:
        _say(f"error: {error}\nrecorded {done:,} of {count:,}: repeat the import")
        return 1
    _say(f"{path}: recorded {done:,}, of which {new:,} are new")
    return 0


async def _show(store: Store, user_id: str) -> int:
    items = sorted(await store.seen(user_id) or ())
    # As they are, whatever the terminal's encoding.
    sys.stdout.buffer.write(b"".join(item + b"\n" for item in items))
    sys.stdout.buffer.flush()
    if not items:
        _say("nothing is known of this user")
    return 0


async def _forget(store: Store, user_id: str) -> int:
    outcomes = await store.forget(user_id)
    for place, items, failure in outcomes:
        _say(f"{place}: not erased: {failure}" if failure else f"{place}: erased {items:,} items")
    _say(_NOT_ERASED)
    return 1 if any(one.failure for one in outcomes) else 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
