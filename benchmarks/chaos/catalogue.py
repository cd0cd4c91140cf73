"""Users and items of the model of drawn vectors that the scenarios ask."""

import csv
import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

from serving_contract import ITEMS_CSV, SEEN_QUERY, SEEN_SQLITE

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
