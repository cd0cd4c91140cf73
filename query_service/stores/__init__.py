"""Seen stores, which know the items that each user has seen and record new ones.

A URL-like name selects a store, and its scheme is the kind of store. To add a kind, write a module
with ``open_store(name)`` that returns a :class:`Store`, and add the module to ``_KINDS``.

base.py            the interface of every store
none.py            no store: requests that need one fail
sqlite.py          the trainer's SQLite file, and a second file of interactions recorded since
recording.py       writes that second file
redis.py           one set per user in Redis
redis_pipeline.py  the connection to Redis
"""

import importlib
from typing import NamedTuple
from urllib.parse import urlsplit

from query_service.stores.base import Store


class _Kind(NamedTuple):
    schemes: tuple[str, ...]
    form: str
    #: Imported only when it is needed: redis-py takes 0.2 s and 10 MB.
    module: str


_KINDS = (
    _Kind(("sqlite",), "sqlite:PATH[?recorded=PATH]", "sqlite"),
    _Kind(("redis", "rediss"), "redis[s]://[USER:PASSWORD@]HOST:PORT/DB", "redis"),
    _Kind(("none",), "none", "none"),
)
NONE = "none"
#: The valid forms of a store's name, for help texts and messages.
FORMS = ", ".join(kind.form for kind in _KINDS[:-1]) + f" or {_KINDS[-1].form}"


def open_store(name: str) -> Store:
    """Return the store with this name, which has one of the ``FORMS``. It connects on first use.

    Raises:
        ValueError: The name is invalid. The message does not repeat it, because it may contain a
            password.
    """
    scheme = name.partition(":")[0]
    for kind in _KINDS:
        if scheme in kind.schemes:
            module = importlib.import_module(f"{__name__}.{kind.module}")
            store: Store = module.open_store(name)
            return store
    raise ValueError(f"--seen-store: unknown kind of seen store; use {FORMS}")


def printable(name: str) -> str:
    """Return the name without its secrets: the user, password and options of a URL."""
    if "://" not in name:
        return name
    url = urlsplit(name)
    credentials, at, host = url.netloc.rpartition("@")
    return f"{url.scheme}://{'***' if credentials else ''}{at}{host}{url.path}"
