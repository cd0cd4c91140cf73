"""The catalogue of benchmarks.service: drawn vectors, ids, and what is asked of it."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import vectors
from serving_contract import METRICS_JSON, REPORTS, RETRIEVAL, SEEN_QUERY, SEEN_SQLITE

HEAVY_USERS = 100
HEAVY_SEEN = 5_000
#: The heavy users from here on have seen items from all over the catalogue.
FIRST_SCATTERED = 50
SEEN, SEEN_AMONG = 100, 200
DATASET = "drawn vectors"
ITEM_PREFIX = "item-"
#: Questions.
PLAIN, EXCLUDED, NONE_SEEN = "plain", "100 excluded", "none seen"
NEAREST_SEEN, SCATTERED_SEEN = "5,000 nearest seen", "5,000 scattered seen"
#: Of the vectors that are no items.
_USERS_STREAM = 3
_RECALL_USERS = 200


def user_ids(count: int) -> list[str]:
    """Of all users, the heavy ones first."""
    return [f"heavy-{n}" if n < HEAVY_USERS else f"user-{n}" for n in range(count)]


def item_ids(count: int, prefix: str = ITEM_PREFIX) -> list[str]:
    """Ids as long as those of a big catalogue."""
    return [f"{prefix}{n:08d}" for n in range(count)]


def drawn(items: int, users: int, dims: int) -> tuple[vectors.Vectors, vectors.Vectors]:
    """Vectors of items [items, dims] and of users [users, dims], from the same clusters."""
    shape = vectors.Shape(vectors=items, dims=dims, noise=0.8)
    return (
        np.concatenate(list(vectors.clustered(shape))),
        np.concatenate(list(vectors.clustered(shape, users, stream=_USERS_STREAM))),
    )


@dataclass(frozen=True)
class Question:
    """Candidates for one user.

    Attributes:
        user_id: of the model.
        vector: the same user's, for those who are asked by vector.
        k: how many.
        exclude: ids that the request names.
        exclude_seen: whether the service has to leave out what the user has seen.
        unwanted: ids that must not be in the answer.
    """

    user_id: str
    vector: tuple[float, ...]
    k: int = vectors.K
    exclude: tuple[str, ...] = ()
    exclude_seen: bool = False
    unwanted: frozenset[str] = frozenset()


class Catalogue:
    """What benchmarks.service.model published in a directory."""

    def __init__(self, models_dir: Path) -> None:
        """Draw the vectors again.

        Raises:
            ValueError: another model lies there.
        """
        self.version = max(int(one.name) for one in (models_dir / RETRIEVAL).iterdir())
        report = models_dir / REPORTS / str(self.version) / METRICS_JSON
        dataset = json.loads(report.read_text(encoding="utf-8"))["dataset"]
        if dataset["name"] != DATASET:
            raise ValueError(f"{models_dir} holds no model made by benchmarks.service.model")
        self.models_dir = models_dir
        self.items, self.dims = dataset["items"], dataset["dimensions"]
        users = HEAVY_USERS + _RECALL_USERS
        self.item_vectors, self._users = drawn(self.items, users, self.dims)
        self._user_ids = user_ids(users)
        self.neighbours = self._neighbours()

    def question(self, name: str) -> Question:
        """One of the names above, or "100 seen".

        The excluded and the seen items are among those nearest to the user, except those of
        "5,000 scattered seen".
        """
        number = {NONE_SEEN: 0, NEAREST_SEEN: 0, SCATTERED_SEEN: FIRST_SCATTERED}
        plain = self._plain(number.get(name, HEAVY_USERS))
        if name in (PLAIN, NONE_SEEN):
            return plain
        if name == EXCLUDED:
            every = vectors.neighbours(self.item_vectors, self._users[[HEAVY_USERS]], SEEN_AMONG)[0]
            chosen = np.random.default_rng(1).choice(every, SEEN, replace=False)
            excluded = tuple(self.id(row) for row in chosen)
            return replace(plain, exclude=excluded, unwanted=frozenset(excluded))
        with closing(sqlite3.connect(self.models_dir / SEEN_SQLITE)) as seen:
            rows = seen.execute(SEEN_QUERY, (plain.user_id,)).fetchall()
        return replace(plain, exclude_seen=True, unwanted=frozenset(row[0] for row in rows))

    def users(self) -> Iterator[tuple[Question, frozenset[str]]]:
        """Users to measure recall with, and their true neighbours."""
        for number, nearest in enumerate(self.neighbours, HEAVY_USERS):
            yield self._plain(number), frozenset(map(self.id, nearest))

    @staticmethod
    def id(row: int) -> str:
        """The id of an item."""
        return f"{ITEM_PREFIX}{row:08d}"

    def _plain(self, number: int) -> Question:
        return Question(self._user_ids[number], tuple(map(float, self._users[number])))

    def _neighbours(self) -> NDArray[np.int64]:
        return vectors.neighbours(self.item_vectors, self._users[HEAVY_USERS:])
