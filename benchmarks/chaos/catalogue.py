"""The model of drawn vectors that the scenarios ask, which is made on the first run."""

import csv
import itertools
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from benchmarks.chaos.checks import ScenarioError
from serving_contract import ITEMS_CSV, RETRIEVAL, SEEN_QUERY, SEEN_SQLITE
from tools.processes import environment, python_module

_USERS, _ITEMS = 500, 5_000
#: Users with more seen items are left out, because their requests cost more than usual.
_MAX_SEEN = 1_000


class Catalogue:
    """Some users and items of the model that is published in a directory.

    Attributes:
        users: user ids.
        seen: the ids of the items that each of these users has seen.
        items: item ids.
    """

    def __init__(self, models_dir: Path) -> None:
        self.seen_store = models_dir / SEEN_SQLITE
        few_seen = "SELECT user_id FROM seen GROUP BY user_id HAVING count(*) <= ? LIMIT ?"
        with closing(sqlite3.connect(self.seen_store)) as store:
            self.users = [row[0] for row in store.execute(few_seen, (_MAX_SEEN, _USERS))]
            self.seen = {
                user: frozenset(row[0] for row in store.execute(SEEN_QUERY, (user,)))
                for user in self.users
            }
        with (models_dir / ITEMS_CSV).open(encoding="utf-8", newline="") as file:
            rows = itertools.islice(csv.DictReader(file), _ITEMS)
            self.items = [row["item_id"] for row in rows]


def ensure_model(
    models_dir: Path, items: int = 200_000, users: int = 20_000, prefix: str = "item-"
) -> Path:
    """Publish a model of that size in a directory, unless there is one; return the directory.

    Raises:
        ScenarioError: the model cannot be made.
    """
    if not (models_dir / RETRIEVAL).exists():
        size = ["--items", f"{items}", "--users", f"{users}", "--item-prefix", prefix]
        command = python_module("benchmarks.service.model", str(models_dir), *size)
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            message = f"cannot make a model in {models_dir}: {done.stderr.strip()[-500:]}"
            raise ScenarioError(message)
    return models_dir
