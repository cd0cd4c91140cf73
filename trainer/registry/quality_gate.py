"""Decides whether a new version may be served: by its index's recall and by its quality.

Quality is compared with the version that is served. Both exported exact models rank the catalogue
for the same users, and both rankings are evaluated on the same test rows.
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
# With a smaller share of users or items in common, two versions have unrelated data.
_MIN_SHARED = 0.1
# Fewer test rows than this are too few for a comparison.
_MIN_ROWS = 100
# Items that only the served version has take up places in its rankings. We ask for up to this
# many more candidates to make up for them.
_MAX_RETIRED = 1000

#: The signature of :func:`trainer.probe.rankings.rank`.
Ranker = Callable[
    [list[Path], NDArray[np.object_], NDArray[np.int64], NDArray[np.object_]], list[Rankings]
]


class _NotComparable(Exception):
    """Quality cannot be compared with the served version. The message is the reason."""


@dataclass(frozen=True, eq=False)
class HeldOutRows:
    """A run's data set and the split that holds out its test rows."""

    dataset: Dataset
    parts: Split

    def fingerprint(self) -> str:
        """Return a string that is equal for equal sets of (user id, item id) test rows."""
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
    """Check the measured recall of the approximate index.

    Args:
        index: ``recall_at_100`` and, if it was measured on a sample, ``recall_at_100_error``,
            its standard error.
        target: the recall to reach. A shortfall of up to two standard errors passes.
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

    If the served version held out other rows, test rows among its seen items are left out. The
    check passes if the served version cannot be read, does not answer, or has too little in
    common with the new data: a broken version must not keep its successor from being served.

    Args:
        new: the directory of the new version's exact model.
        served: the directory of the served version.
        rows: the new version's data.
        settings: the allowed loss and the largest number of users to compare.
        rank: asks exported models for rankings.

    Raises:
        VerificationError: the new version does not answer.
    """
    version = int(served.name)
    try:
        return _compare(version, new, served, rows, settings, rank)
    except (StoreError, OSError, sqlite3.Error) as error:
        reason = f"it cannot be read: {error}"
    except _NotComparable as error:
        reason = str(error)
    text = f"quality was not compared with version {version}: {reason}"
    return CheckResult(True, text, {"serving_version": version})


def _compare(
    version: int, new: Path, served: Path, rows: HeldOutRows, settings: GateConfig, rank: Ranker
) -> CheckResult:
    test = _rows_to_compare(served, rows, settings.users)
    catalogue = rows.dataset.item_ids
    served_items = list(side_files.read_item_ids(served / ITEMS_CSV))
    shared_items = float(pd.Series(catalogue).isin(served_items).mean())
    if shared_items < _MIN_SHARED:
        raise _NotComparable(f"it knows only {shared_items:.1%} of the items")
    users = np.unique(test.users)
    retired = max(0, len(served_items) - round(shared_items * len(catalogue)))
    training_rows = np.bincount(rows.parts.train.users, minlength=int(users[-1]) + 1)[users]
    depths = DEPTH + training_rows.astype(np.int64) + min(retired, _MAX_RETIRED)
    request = rows.dataset.user_ids[users], depths, catalogue
    try:
        new_rankings, served_rankings = rank(
            [new, served / RETRIEVAL_EXACT / str(version)], *request
        )
    except VerificationError as error:
        # This raises the error again if it was the new version that did not answer.
        rank([new], *request)
        raise _NotComparable(f"it does not answer: {error}") from error
    shared_users = float(served_rankings.known.mean())
    if shared_users < _MIN_SHARED:
        raise _NotComparable(f"it knows only {shared_users:.1%} of the users")
    value, before = (
        _unseen_top_100(rankings, users, rows, test) for rankings in (new_rankings, served_rankings)
    )
    return CheckResult(
        value >= before - settings.max_quality_loss,
        f"unseen_items top-100 is {value:.4f}, and version {version}'s is {before:.4f} on the "
        f"same {len(test):,} test rows of {len(users):,} users; a loss of up to "
        f"{settings.max_quality_loss:g} is allowed",
        {
            "unseen_items_top_100": value,
            "serving_version": version,
            "serving_unseen_items_top_100": before,
            "max_quality_loss": settings.max_quality_loss,
            "rows": len(test),
            "users": len(users),
        },
    )


def _rows_to_compare(served: Path, rows: HeldOutRows, max_users: int) -> Interactions:
    """Return the test rows of up to ``max_users`` users that the served version has not seen."""
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
    """Return the rows that are not in a version's database of seen items."""
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
    """Return the metric of the rankings of ``users``, in ascending order, on ``test``."""
    items = len(rows.dataset.item_ids)

    def score(batch: NDArray[np.int32]) -> NDArray[np.float32]:
        # An item's score is its negated rank; items that were not returned score -inf.
        scores = np.full((len(batch), items), -np.inf, np.float32)
        for row, user in enumerate(np.searchsorted(users, batch)):
            ranking = rankings.of_user(int(user))
            scores[row, ranking] = -np.arange(len(ranking))
        return scores

    train = rows.parts.train.take(np.isin(rows.parts.train.users, users))
    return evaluation.evaluate(score, train, test).unseen_items.top_100
