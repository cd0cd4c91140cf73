"""All peers by name."""

from collections.abc import Callable

from benchmarks.index.libraries import Faiss, Hnswlib
from benchmarks.index.peer import Peer
from benchmarks.index.saved_models import Exact, Ours, Tfrs

#: Peers that are built without a target recall, by name.
PEERS: dict[str, Callable[[], Peer]] = {
    "tfrs": lambda: Tfrs(with_sqrt=False),
    "tfrs-sqrt": lambda: Tfrs(with_sqrt=True),
    "hnswlib-16": lambda: Hnswlib(16),
    "hnswlib-32": lambda: Hnswlib(32),
    "faiss": lambda: Faiss(residual=False),
    "faiss-residual": lambda: Faiss(residual=True),
    "exact": Exact,
}
OURS = "ours-"


def peer(name: str) -> Peer:
    """Return the peer with a name of ``PEERS``, or one such as "ours-0.95"."""
    return Ours(float(name.removeprefix(OURS))) if name.startswith(OURS) else PEERS[name]()
