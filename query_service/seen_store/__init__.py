"""Where seen items are kept: chosen by a URL-like name."""

from pathlib import Path

from query_service.retrieval import SeenStore
from query_service.seen_store.none import NoSeenStore
from query_service.seen_store.sqlite import SqliteSeenStore

_SQLITE = "sqlite:"
NONE = "none"


def open_store(name: str) -> SeenStore:
    """The store called ``name``: ``sqlite:PATH`` or ``none``.

    Raises:
        ValueError: there is no such kind of store.
    """
    if name == NONE:
        return NoSeenStore()
    if name.startswith(_SQLITE) and len(name) > len(_SQLITE):
        return SqliteSeenStore(Path(name.removeprefix(_SQLITE)))
    raise ValueError(f"no seen store {name!r}: use sqlite:PATH or none")
