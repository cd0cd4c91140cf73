"""The catalogue of the service benchmark: ids and random vectors of items and users, requests."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import serving, vectors
from serving_contract import RETRIEVAL, SEEN_QUERY, SEEN_SQLITE
from tools.processes import fresh_process

DIMS = 32
#: The first ``HEAVY_USERS`` users have seen ``HEAVY_SEEN`` items each.
HEAVY_USERS, HEAVY_SEEN = 100, 5_000
#: Heavy users before this one have seen the items nearest to them, the others random items.
FIRST_SCATTERED = 50
#: A user who is not heavy has seen ``SEEN`` of the ``SEEN_AMONG`` nearest items.
SEEN, SEEN_AMONG = 100, 200
DATASET = "drawn vectors"
ITEM_PREFIX = "item-"
#: Kinds of requests: for a user without exclusions, for the same user with 100 excluded item ids,
#: and for a heavy user without exclude_seen, with which the next two kinds are compared.
PLAIN, EXCLUDED, NONE_SEEN = "plain", "100 excluded", "none seen"
#: With exclude_seen, for a user who has seen the 5,000 nearest items, or 5,000 random items.
NEAREST_SEEN, SCATTERED_SEEN = "5,000 nearest seen", "5,000 scattered seen"
#: The random stream from which the user vectors are drawn.
_USERS_STREAM = 3
_RECALL_USERS = 200


def user_ids(count: int) -> list[str]:
    """Return the ids of all users, the heavy ones first."""
    return [f"heavy-{n}" if n < HEAVY_USERS else f"user-{n}" for n in range(count)]


def item_ids(count: int, prefix: str = ITEM_PREFIX) -> list[str]:
    """Return item ids that are as long as in a big catalogue."""
    return [f"{prefix}{n:08d}" for n in range(count)]


def draw_vectors(items: int, users: int) -> tuple[vectors.Vectors, vectors.Vectors]:
    """Draw item vectors [items, D] and user vectors [users, D], float32, from the same clusters."""
    shape = vectors.Shape(items, DIMS, noise=0.8)
    return (
        np.concatenate(list(vectors.clustered(shape))),
        np.concatenate(list(vectors.clustered(shape, users, stream=_USERS_STREAM))),
    )


@dataclass(frozen=True)
class UserRequest:
    """A request for the 100 best candidates for one user.

    Attributes:
        user_id: the user.
        vector: the user's vector, for peers that search by vector.
        exclude: item ids that the request lists as exclusions.
        exclude_seen: whether the service must exclude the items that the user has seen.
        excluded: item ids that must not be in the answer, for either reason.
    """

    user_id: str
    vector: tuple[float, ...]
    exclude: tuple[str, ...] = ()
    exclude_seen: bool = False
    excluded: frozenset[str] = frozenset()


class Catalogue:
    """The items and users of the model that `ensure_model` published in ``models_dir``.

    Attributes:
        models_dir: the directory of the model.
        item_ids: the ids of all items.
        item_vectors: the vectors of all items, float32 [items, D].
    """

    def __init__(self, models_dir: Path) -> None:
        """Draw the vectors that the model was made from again.

        Raises:
            ValueError: the model in the directory was not made by this benchmark.
        """
        dataset = serving.published_dataset(models_dir)
        if dataset["name"] != DATASET:
            raise ValueError(
                f"the model in {models_dir} was not made by this benchmark; use another directory"
            )
        users = HEAVY_USERS + _RECALL_USERS
        self.models_dir = models_dir
        self.item_ids = item_ids(dataset["items"])
        self.item_vectors, self._user_vectors = draw_vectors(dataset["items"], users)
        self._user_ids = user_ids(users)

    def user_request(self, kind: str) -> UserRequest:
        """Return the request of a kind, such as ``PLAIN``."""
        if kind == PLAIN:
            return self._plain(HEAVY_USERS)
        if kind == NONE_SEEN:
            return self._plain(0)
        if kind == EXCLUDED:
            [nearest] = self._neighbours(slice(HEAVY_USERS, HEAVY_USERS + 1), SEEN_AMONG)
            exclude = tuple(np.random.default_rng(1).choice(nearest, SEEN, replace=False).tolist())
            return replace(self._plain(HEAVY_USERS), exclude=exclude, excluded=frozenset(exclude))
        user = self._plain(0 if kind == NEAREST_SEEN else FIRST_SCATTERED)
        with closing(sqlite3.connect(self.models_dir / SEEN_SQLITE)) as store:
            seen = frozenset(row[0] for row in store.execute(SEEN_QUERY, (user.user_id,)))
        return replace(user, exclude_seen=True, excluded=seen)

    def requests_with_answers(self) -> Iterator[tuple[UserRequest, list[str]]]:
        """Yield each request for measuring recall, with the ids of the exact 100 best items."""
        for number, nearest in enumerate(self._neighbours(slice(HEAVY_USERS, None)), HEAVY_USERS):
            yield self._plain(number), nearest

    def _neighbours(self, users: slice, k: int = vectors.K) -> list[list[str]]:
        rows = vectors.neighbours(self.item_vectors, self._user_vectors[users], k)
        return [[self.item_ids[row] for row in nearest] for nearest in rows]

    def _plain(self, number: int) -> UserRequest:
        return UserRequest(self._user_ids[number], tuple(map(float, self._user_vectors[number])))


def ensure_model(
    models_dir: Path, items: int = 200_000, users: int = 20_000, prefix: str = ITEM_PREFIX
) -> Path:
    """Publish a model of this size unless the directory has a model; return the directory."""
    if not (models_dir / RETRIEVAL).exists():
        with fresh_process() as process:
            process.submit(_publish, models_dir, items, users, prefix).result()
    return models_dir


def _publish(models_dir: Path, items: int, users: int, prefix: str) -> None:
    # Runs in another process, because TensorFlow in this one would disturb the measurements.
    from benchmarks.service.model import publish

    publish(models_dir, items, users, prefix)
