"""The quality gate, which decides whether a new version may be served.

The gate checks the recall of the index, and compares quality with the served version: the exact
models of both versions rank the catalogue for the same users, and the rankings of both models are
evaluated on the same test rows.
"""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving_contract import ITEMS_CSV, RETRIEVAL_EXACT, SEEN_QUERY, SEEN_SQLITE
from trainer import evaluation
from trainer.artifact import side_files
from trainer.config import GateConfig
from trainer.data.types import Dataset, Interactions, Split
from trainer.errors import StoreError, VerificationError
from trainer.evaluation.ranking import DEPTH
from trainer.probe.rankings import Rankings, rank
from trainer.registry.version_record import CheckResult, VersionRecord

# Recall is measured on a sample of queries. A shortfall within this many standard errors passes.
_STANDARD_ERRORS = 2.0
# Two versions have unrelated data if they share less than this part of their users or items.
_MIN_SHARED = 0.1
# With fewer test rows, quality is not compared.
_MIN_ROWS = 100
# Items that only the served version has occupy ranks in its rankings. To compensate, up to this
# many additional candidates are requested.
_MAX_EXTRA_CANDIDATES = 1000

#: The signature of :func:`trainer.probe.rankings.rank`.
Ranker = Callable[
    [list[Path], NDArray[np.object_], NDArray[np.int64], NDArray[np.object_]], list[Rankings]
]


class _NotComparable(Exception):
    """Quality cannot be compared with the served version. The message has the reason."""


@dataclass(frozen=True, eq=False)
class HeldOutRows:
    """The data set of a run, and the split that holds out the test rows."""

    dataset: Dataset
    parts: Split

    def fingerprint(self) -> str:
        """Return a string that is the same for the same set of (user id, item id) test rows."""
        users, items = (
            pd.util.hash_array(ids.astype(object))
            for ids in (self.dataset.user_ids, self.dataset.item_ids)
        )
        rows = self.parts.test
        # Multiplying by an odd constant distinguishes (a, b) from (b, a). Overflow wraps around.
        pairs = (users[rows.users] * np.uint64(0x9E3779B97F4A7C15)) ^ items[rows.items]
        mixed = pairs * (pairs >> np.uint64(32) | np.uint64(1))
        return f"{len(rows)}-{int(mixed.sum(dtype=np.uint64)):016x}"


def check_recall(index: Mapping[str, Any], target: float) -> CheckResult:
    """Check that the approximate index reaches its target recall.

    Args:
        index: the measurements ``recall_at_100`` and, optionally, ``recall_at_100_error``, the
            standard error of recall.
        target: the required recall. A shortfall of up to two standard errors passes.
    """
    recall, error = index["recall_at_100"], index.get("recall_at_100_error", 0.0)
    passed = recall + _STANDARD_ERRORS * error >= target
    text = f"recall@100 of the index is {recall:.4f}; the target is {target:g}"
    if passed and recall < target:
        text += f", and the measurement is accurate to {_STANDARD_ERRORS * error:.4f}"
    values = {"recall_at_100": recall, "standard_error": error, "target": target}
    return CheckResult(passed, text, values)


def compare_quality(
    new: Path, served: Path, rows: HeldOutRows, settings: GateConfig, rank: Ranker = rank
) -> CheckResult:
    """Check that a new version's ``unseen_items.top_100`` is close to the served version's.

    Test rows that the served version was trained on are ignored. If the served version cannot be
    read, does not answer, or has too little in common with the new data, the check passes: a broken
    served version must not prevent the new version from being served.

    Args:
        new: the directory of the new version's exact model.
        served: the directory of the served version.
        rows: the data set and the split of the new version.
        settings: the allowed loss and the maximum number of users to compare.
        rank: a function that returns the rankings of exported models.

    Raises:
        VerificationError: the new version does not answer.
    """
    try:
        return _compare(new, served, rows, settings, rank)
    except (StoreError, OSError, sqlite3.Error) as error:
        reason = f"it cannot be read: {error}"
    except _NotComparable as error:
        reason = str(error)
    text = f"quality was not compared with version {served.name}: {reason}"
    return CheckResult(True, text, {"serving_version": int(served.name)})


def _compare(
    new: Path, served: Path, rows: HeldOutRows, settings: GateConfig, rank: Ranker
) -> CheckResult:
    version = int(served.name)
    test = _rows_to_compare(served, rows, settings.users)
    catalogue = rows.dataset.item_ids
    served_items = list(side_files.read_item_ids(served / ITEMS_CSV))
    shared_items = float(pd.Series(catalogue).isin(served_items).mean())
    if shared_items < _MIN_SHARED:
        raise _NotComparable(f"it knows only {shared_items:.1%} of the items")
    users = np.unique(test.users)
    retired = max(0, len(served_items) - round(shared_items * len(catalogue)))
    training_rows = np.bincount(rows.parts.train.users, minlength=int(users[-1]) + 1)[users]
    depths = DEPTH + training_rows.astype(np.int64) + min(retired, _MAX_EXTRA_CANDIDATES)
    request = rows.dataset.user_ids[users], depths, catalogue
    try:
        new_rankings, served_rankings = rank(
            [new, served / RETRIEVAL_EXACT / str(version)], *request
        )
    except VerificationError as error:
        # If the new version is the one that does not answer, this call raises the error again.
        rank([new], *request)
        raise _NotComparable(f"it does not answer: {error}") from error
    shared_users = float(served_rankings.known.mean())
    if shared_users < _MIN_SHARED:
        raise _NotComparable(f"it knows only {shared_users:.1%} of the users")
    new_value, served_value = (
        _unseen_top_100(rankings, users, rows, test) for rankings in (new_rankings, served_rankings)
    )
    return CheckResult(
        new_value >= served_value - settings.max_quality_loss,
        f"unseen_items top-100 is {new_value:.4f}, and version {version}'s is {served_value:.4f} "
        f"on the same {len(test):,} test rows of {len(users):,} users; a loss of up to "
        f"{settings.max_quality_loss:g} is allowed",
        {
            "unseen_items_top_100": new_value,
            "serving_version": version,
            "serving_unseen_items_top_100": served_value,
            "max_quality_loss": settings.max_quality_loss,
            "rows": len(test),
            "users": len(users),
        },
    )


def _rows_to_compare(served: Path, rows: HeldOutRows, max_users: int) -> Interactions:
    """Return the test rows of up to ``max_users`` users that are new to the served version."""
    test = rows.parts.test.of_sampled_users(max_users, seed=0)
    if VersionRecord.read(served).test_rows == rows.fingerprint():
        return test
    unseen = _unseen_rows(test, rows.dataset, served / SEEN_SQLITE)
    if len(unseen) < _MIN_ROWS:
        raise _NotComparable(
            f"it was trained on other rows, and only {len(unseen)} of these test rows are new to it"
        )
    return unseen


def _unseen_rows(test: Interactions, dataset: Dataset, seen_sqlite: Path) -> Interactions:
    """Return the test rows that are not in the served version's database of seen items."""
    address = f"{seen_sqlite.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        seen_by = {
            user: {item for (item,) in connection.execute(SEEN_QUERY, [dataset.user_ids[user]])}
            for user in np.unique(test.users).tolist()
        }
    pairs = zip(test.users.tolist(), dataset.item_ids[test.items], strict=True)
    return test.take(np.array([item not in seen_by[user] for user, item in pairs], bool))


def _unseen_top_100(
    rankings: Rankings, users: NDArray[np.int32], rows: HeldOutRows, test: Interactions
) -> float:
    """Return the metric ``unseen_items.top_100`` of ``rankings`` on the test rows.

    Args:
        rankings: the rankings for ``users``, in the same order.
        users: int32 [U], the users with test rows, ascending.
        rows: the data set and its training rows.
        test: the test rows.
    """
    items = len(rows.dataset.item_ids)

    def score(batch: NDArray[np.int32]) -> NDArray[np.float32]:
        # An item's score is its negated rank; an item that was not returned has the score -inf.
        scores = np.full((len(batch), items), -np.inf, np.float32)
        for row, user in enumerate(np.searchsorted(users, batch)):
            ranking = rankings.of_user(int(user))
            scores[row, ranking] = -np.arange(len(ranking))
        return scores

    train = rows.parts.train.take(np.isin(rows.parts.train.users, users))
    return evaluation.evaluate(score, train, test).unseen_items.top_100
