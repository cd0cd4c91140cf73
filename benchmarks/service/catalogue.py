"""The catalogue of the comparison: drawn vectors, ids, and the questions."""

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
HEAVY_USERS = 100
HEAVY_SEEN = 5_000
#: Heavy users from this one on have seen random items, those before it their nearest items.
FIRST_SCATTERED = 50
#: Other users have seen ``SEEN`` of the ``SEEN_AMONG`` items nearest to them.
SEEN, SEEN_AMONG = 100, 200
DATASET = "drawn vectors"
ITEM_PREFIX = "item-"
#: The names of the questions.
PLAIN, EXCLUDED, NONE_SEEN = "plain", "100 excluded", "none seen"
NEAREST_SEEN, SCATTERED_SEEN = "5,000 nearest seen", "5,000 scattered seen"
#: The random stream of the users' vectors.
_USERS_STREAM = 3
_RECALL_USERS = 200


def user_ids(count: int) -> list[str]:
    """Return the ids of all users, the heavy ones first."""
    return [f"heavy-{n}" if n < HEAVY_USERS else f"user-{n}" for n in range(count)]


def item_ids(count: int, prefix: str = ITEM_PREFIX) -> list[str]:
    """Return item ids as long as those of a big catalogue."""
    return [f"{prefix}{n:08d}" for n in range(count)]


def draw_vectors(items: int, users: int) -> tuple[vectors.Vectors, vectors.Vectors]:
    """Return float32 vectors [items, D] and [users, D], drawn from the same clusters."""
    shape = vectors.Shape(items, DIMS, noise=0.8)
    return (
        np.concatenate(list(vectors.clustered(shape))),
        np.concatenate(list(vectors.clustered(shape, users, stream=_USERS_STREAM))),
    )


@dataclass(frozen=True)
class Question:
    """A request for the 100 best candidates for one user.

    Attributes:
        user_id: the user.
        vector: the user's vector, for peers that are asked by vector.
        exclude: item ids that the request excludes.
        exclude_seen: whether the service has to exclude what the user has seen.
        excluded: item ids that must not be in the answer.
    """

    user_id: str
    vector: tuple[float, ...]
    exclude: tuple[str, ...] = ()
    exclude_seen: bool = False
    excluded: frozenset[str] = frozenset()


class Catalogue:
    """The model that `ensure_model` published in a directory.

    Attributes:
        models_dir: the directory.
        item_ids: the ids of all items.
        item_vectors: their vectors, float32 [items, D].
    """

    def __init__(self, models_dir: Path) -> None:
        """Draw the vectors of the model again.

        Raises:
            ValueError: the directory has a model of other vectors.
        """
        dataset = serving.published_dataset(models_dir)
        if dataset["name"] != DATASET:
            raise ValueError(
                f"{models_dir} has a model of other vectors; use a directory of this benchmark"
            )
        users = HEAVY_USERS + _RECALL_USERS
        self.models_dir = models_dir
        self.item_ids = item_ids(dataset["items"])
        self.item_vectors, self._user_vectors = draw_vectors(dataset["items"], users)
        self._user_ids = user_ids(users)

    def question(self, name: str) -> Question:
        """Return the question of one of the names above."""
        if name == PLAIN:
            return self._plain(HEAVY_USERS)
        if name == NONE_SEEN:
            return self._plain(0)
        if name == EXCLUDED:
            [nearest] = self._neighbours(slice(HEAVY_USERS, HEAVY_USERS + 1), SEEN_AMONG)
            exclude = tuple(np.random.default_rng(1).choice(nearest, SEEN, replace=False).tolist())
            return replace(self._plain(HEAVY_USERS), exclude=exclude, excluded=frozenset(exclude))
        user = self._plain(0 if name == NEAREST_SEEN else FIRST_SCATTERED)
        with closing(sqlite3.connect(self.models_dir / SEEN_SQLITE)) as store:
            seen = frozenset(row[0] for row in store.execute(SEEN_QUERY, (user.user_id,)))
        return replace(user, exclude_seen=True, excluded=seen)

    def questions_with_answers(self) -> Iterator[tuple[Question, list[str]]]:
        """Yield the questions that recall is measured with, and the exact 100 best items."""
        for number, nearest in enumerate(self._neighbours(slice(HEAVY_USERS, None)), HEAVY_USERS):
            yield self._plain(number), nearest

    def _neighbours(self, users: slice, k: int = vectors.K) -> list[list[str]]:
        rows = vectors.neighbours(self.item_vectors, self._user_vectors[users], k)
        return [[self.item_ids[row] for row in nearest] for nearest in rows]

    def _plain(self, number: int) -> Question:
        return Question(self._user_ids[number], tuple(map(float, self._user_vectors[number])))


def ensure_model(
    models_dir: Path, items: int = 200_000, users: int = 20_000, prefix: str = ITEM_PREFIX
) -> Path:
    """Publish a model of that size, unless the directory has one; return the directory."""
    if not (models_dir / RETRIEVAL).exists():
        with fresh_process() as process:
            process.submit(_publish, models_dir, items, users, prefix).result()
    return models_dir


def _publish(models_dir: Path, items: int, users: int, prefix: str) -> None:
    # TensorFlow would disturb the load that the calling process makes afterwards.
    from benchmarks.service.model import publish

    publish(models_dir, items, users, prefix)
