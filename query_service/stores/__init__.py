"""Seen stores know the items that each user has seen, and record new ones.

A URL-like name selects a store, and its scheme is the kind of store. To add a kind, write a module
with ``open_store(name)`` that returns a :class:`Store`, and add it to ``_MODULES``.

base.py            the interface of every store
none.py            no store: requests that need one fail
sqlite.py          the trainer's SQLite file, and a second file for recorded interactions
redis.py           one set per user in Redis
redis_pipeline.py  the connection to Redis
"""

import importlib
from urllib.parse import urlsplit

from query_service.stores.base import Store

NONE = "none"
#: The valid forms of a store's name, for help texts and messages.
FORMS = "sqlite:PATH[?recorded=PATH], redis[s]://[USER:PASSWORD@]HOST:PORT/DB or none"
#: The module for each scheme, imported only when needed, because redis-py takes 0.2 s and 10 MB.
_MODULES = {"sqlite": "sqlite", "redis": "redis", "rediss": "redis", NONE: "none"}


def open_store(name: str) -> Store:
    """Return the store with this name, which has one of the ``FORMS``. It connects on first use.

    Raises:
        ValueError: The name is invalid. The message does not repeat it, because it may contain a
            password.
    """
    module = _MODULES.get(name.partition(":")[0])
    if module is None:
        raise ValueError(f"--seen-store: unknown kind of seen store; use {FORMS}")
    store: Store = importlib.import_module(f"{__name__}.{module}").open_store(name)
    return store


def printable(name: str) -> str:
    """Return the name without its secrets: the user, password and options of a URL."""
    if "://" not in name:
        return name
    url = urlsplit(name)
    credentials, at, host = url.netloc.rpartition("@")
    return f"{url.scheme}://{'***' if credentials else ''}{at}{host}{url.path}"
