"""The catalogue of the comparison: drawn vectors, ids, and the questions."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import vectors
from serving_contract import METRICS_JSON, REPORTS, RETRIEVAL, SEEN_QUERY, SEEN_SQLITE
from tools.processes import ProcessError, environment, python_module

HEAVY_USERS = 100
HEAVY_SEEN = 5_000
#: Heavy users from this one on have seen random items, those before it their nearest items.
FIRST_SCATTERED = 50
#: Other users have seen this many of this many nearest items.
SEEN, SEEN_AMONG = 100, 200
DATASET = "drawn vectors"
ITEM_PREFIX = "item-"
#: The questions.
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


def draw_vectors(items: int, users: int, dims: int) -> tuple[vectors.Vectors, vectors.Vectors]:
    """Return float32 vectors [items, dims] and [users, dims], drawn from the same clusters."""
    shape = vectors.Shape(vectors=items, dims=dims, noise=0.8)
    return (
        np.concatenate(list(vectors.clustered(shape))),
        np.concatenate(list(vectors.clustered(shape, users, stream=_USERS_STREAM))),
    )


@dataclass(frozen=True)
class Question:
    """A request for candidates for one user.

    Attributes:
        user_id: the user.
        vector: the user's vector, for peers that are asked by vector.
        k: number of candidates.
        exclude: item ids that the request excludes.
        exclude_seen: whether the service has to exclude what the user has seen.
        excluded: item ids that must not be in the answer.
    """

    user_id: str
    vector: tuple[float, ...]
    k: int = vectors.K
    exclude: tuple[str, ...] = ()
    exclude_seen: bool = False
    excluded: frozenset[str] = frozenset()


class Catalogue:
    """The model that `benchmarks.service.model` published in a directory."""

    def __init__(self, models_dir: Path) -> None:
        """Draw the vectors of the model again.

        Raises:
            ValueError: the model in the directory is another one.
        """
        self.version = max(int(one.name) for one in (models_dir / RETRIEVAL).iterdir())
        report = models_dir / REPORTS / str(self.version) / METRICS_JSON
        dataset = json.loads(report.read_text(encoding="utf-8"))["dataset"]
        if dataset["name"] != DATASET:
            raise ValueError(
                f"{models_dir} has no model made by `python -m benchmarks.service.model`"
            )
        self.models_dir = models_dir
        self.items, self.dims = dataset["items"], dataset["dimensions"]
        users = HEAVY_USERS + _RECALL_USERS
        self.item_vectors, self._users = draw_vectors(self.items, users, self.dims)
        self._user_ids = user_ids(users)
        measured_users = self._users[HEAVY_USERS:]
        self.neighbours = vectors.neighbours(self.item_vectors, measured_users)

    def question(self, name: str) -> Question:
        """Return the question of one of the names above.

        Excluded and seen items are among those nearest to the user, except for SCATTERED_SEEN.
        """
        number = {NONE_SEEN: 0, NEAREST_SEEN: 0, SCATTERED_SEEN: FIRST_SCATTERED}
        plain = self._plain(number.get(name, HEAVY_USERS))
        if name in (PLAIN, NONE_SEEN):
            return plain
        if name == EXCLUDED:
            user = self._users[[HEAVY_USERS]]
            [nearest] = vectors.neighbours(self.item_vectors, user, SEEN_AMONG)
            rows = np.random.default_rng(1).choice(nearest, SEEN, replace=False)
            excluded = tuple(map(self.id, rows))
            return replace(plain, exclude=excluded, excluded=frozenset(excluded))
        with closing(sqlite3.connect(self.models_dir / SEEN_SQLITE)) as seen:
            found = seen.execute(SEEN_QUERY, (plain.user_id,)).fetchall()
        return replace(plain, exclude_seen=True, excluded=frozenset(row[0] for row in found))

    def users_with_neighbours(self) -> Iterator[tuple[Question, frozenset[str]]]:
        """Yield questions for the users that recall is measured with, and their neighbours."""
        for number, nearest in enumerate(self.neighbours, HEAVY_USERS):
            yield self._plain(number), frozenset(map(self.id, nearest))

    @staticmethod
    def id(row: int) -> str:
        """Return the id of the item in that row."""
        return f"{ITEM_PREFIX}{row:08d}"

    def _plain(self, number: int) -> Question:
        return Question(self._user_ids[number], tuple(map(float, self._users[number])))


def ensure_model(
    models_dir: Path, items: int = 200_000, users: int = 20_000, prefix: str = ITEM_PREFIX
) -> Path:
    """Publish a model of that size, unless the directory has one; return the directory.

    Raises:
        ProcessError: the model cannot be made.
    """
    if not (models_dir / RETRIEVAL).exists():
        size = ["--items", f"{items}", "--users", f"{users}", "--item-prefix", prefix]
        # In a process of its own, because it takes memory that the caller would keep.
        command = python_module("benchmarks.service.model", str(models_dir), *size)
        if subprocess.run(command, env=environment(), check=False).returncode:
            raise ProcessError(f"no model was made in {models_dir}; the output above says why")
    return models_dir
