"""Where seen items are kept: chosen by a URL-like name.

store.py      what every store can do
none.py       no store
sqlite.py     the embedded store: the trainer's file, and beside it what was recorded since
recording.py  that second file
redis.py      one set per user in Redis
pipelining.py its connection
"""

from pathlib import Path
from urllib.parse import urlsplit

from query_service.stores.base import Store
from query_service.stores.none import NoSeenStore
from query_service.stores.sqlite import SqliteSeenStore

NONE = "none"
FORMS = "sqlite:PATH[?recorded=PATH], redis://[USER:PASSWORD@]HOST:PORT/DB, rediss://... or none"
_SQLITE = "sqlite:"
_REDIS = ("redis://", "rediss://")
_RECORDED = "recorded="


def open_store(name: str) -> Store:
    """The store of this name, in one of the ``FORMS``. Nothing is read or connected yet.

    Raises:
        ValueError: there is no such kind of store. The name is not repeated: it may hold a
            password.
    """
    if name == NONE:
        return NoSeenStore()
    if name.startswith(_REDIS):
        # A fifth of a second and 10 MB that the other stores do not need.
        from query_service.stores.redis import RedisSeenStore

        return RedisSeenStore(name)
    path, _, option = name.removeprefix(_SQLITE).partition("?")
    recorded = option.removeprefix(_RECORDED)
    if not name.startswith(_SQLITE) or not path or (option and recorded in ("", option)):
        raise ValueError(f"--seen-store: there is no such seen store: use {FORMS}")
    return SqliteSeenStore(Path(path), Path(recorded) if recorded else None)


def printable(name: str) -> str:
    """The name without what is secret in it: user, password and the options of a Redis URL."""
    if not name.startswith(_REDIS):
        return name
    url = urlsplit(name)
    credentials, at, host = url.netloc.rpartition("@")
    return f"{url.scheme}://{'***' if credentials else ''}{at}{host}{url.path}"
