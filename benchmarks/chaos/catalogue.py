"""What is asked for: a model of drawn vectors, made where there is none."""

import csv
import itertools
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from benchmarks.chaos.checks import Broken
from benchmarks.chaos.processes import environment
from serving_contract import ITEMS_CSV, RETRIEVAL, SEEN_QUERY, SEEN_SQLITE

_USERS, _ITEMS = 500, 5_000
#: Of more seen items a request's cost would be another one.
_MOST_SEEN = 1_000


class Catalogue:
    """Some users and items of a model that is published in a directory.

    Attributes:
        users: their ids.
        seen: what each of them has seen.
        items: their ids.
    """

    def __init__(self, models_dir: Path) -> None:
        self.models_dir = models_dir
        self.seen_store = models_dir / SEEN_SQLITE
        chosen = "SELECT user_id FROM seen GROUP BY user_id HAVING count(*) <= ? LIMIT ?"
        with closing(sqlite3.connect(self.seen_store)) as store:
            self.users = [row[0] for row in store.execute(chosen, (_MOST_SEEN, _USERS))]
            self.seen = {
                user: frozenset(row[0] for row in store.execute(SEEN_QUERY, (user,)))
                for user in self.users
            }
        with (models_dir / ITEMS_CSV).open(encoding="utf-8", newline="") as file:
            rows = itertools.islice(csv.DictReader(file), _ITEMS)
            self.items = [row["item_id"] for row in rows]


def made(
    models_dir: Path, items: int = 200_000, users: int = 20_000, prefix: str = "item-"
) -> Path:
    """Where a model of that size lies, published by the trainer's own code.

    Raises:
        Broken: it cannot be made.
    """
    if not (models_dir / RETRIEVAL).exists():
        size = ["--items", f"{items}", "--users", f"{users}", "--item-prefix", prefix]
        command = [sys.executable, "-m", "benchmarks.service.model", str(models_dir), *size]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Broken(f"no model in {models_dir}: {done.stderr.strip()[-500:]}")
    return models_dir
