"""A new version beside the served one, on the same test rows, both through their exports."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving_contract import ITEMS_CSV, RETRIEVAL_EXACT, SEEN_QUERY, SEEN_SQLITE
from trainer import evaluation
from trainer.artifact import side_files as companions
from trainer.config import GateConfig
from trainer.data.types import Dataset, Interactions, Split
from trainer.errors import StoreError, VerificationError
from trainer.evaluation.ranking import DEPTH
from trainer.probe import user_answers as answers
from trainer.registry import version_record as record
from trainer.registry.version_record import Check

# Two versions of other data are not compared, nor versions on fewer rows than tell anything.
_LEAST_SHARED = 0.1
_LEAST_ROWS = 100
# How many items that the data no longer has are looked past, at the most, for each user.
_MOST_RETIRED = 1000


@dataclass(frozen=True, eq=False)
class TestRows:
    """What a run held out."""

    __test__ = False  # Not one of pytest's.

    dataset: Dataset
    parts: Split

    def fingerprint(self) -> str:
        """The same for the same pairs of ids, in whatever order."""
        users, items = (
            pd.util.hash_array(ids.astype(object))
            for ids in (self.dataset.user_ids, self.dataset.item_ids)
        )
        rows = self.parts.test
        # An odd factor keeps (a, b) and (b, a) apart; unsigned integers wrap.
        pairs = (users[rows.users] * np.uint64(0x9E3779B97F4A7C15)) ^ items[rows.items]
        mixed = pairs * (pairs >> np.uint64(32) | np.uint64(1))
        return f"{len(rows)}-{int(mixed.sum(dtype=np.uint64)):016x}"


def compare(new: Path, serving: Path, rows: TestRows, settings: GateConfig) -> Check:
    """Whether the new version's ``unseen_items.top_100`` is near enough the served version's.

    Rows that the served version was trained on are left out: all of its data, unless
    it held out the very same rows. A served version that cannot be read or asked is no
    reason to keep another one back.

    Args:
        new: the exact model of the new version.
        serving: the directory of the version that is served.
        rows: of the new version.
        settings: the margin, and how many users are asked for.

    Raises:
        VerificationError: the new one does not answer.
    """
    try:
        return _compare(new, serving, rows, settings)
    except (StoreError, OSError, sqlite3.Error) as error:
        return _not_compared(int(serving.name), f"it cannot be read: {error}")


def _compare(new: Path, serving: Path, rows: TestRows, settings: GateConfig) -> Check:
    served = record.read(serving)
    number = served.version
    sampled = _sampled(rows.parts.test, settings.users)
    test = sampled
    if served.test_rows != rows.fingerprint():
        test = _fresh(sampled, rows.dataset, serving / SEEN_SQLITE)
        if len(test) < _LEAST_ROWS:
            return _not_compared(
                number,
                f"it was trained on other rows; only {len(test)} of these are new to it",
            )
    known_items = companions.read_item_ids(serving / ITEMS_CSV)
    shared_items = float(pd.Series(rows.dataset.item_ids).isin(known_items).mean())
    if shared_items < _LEAST_SHARED:
        return _not_compared(number, f"it knows only {shared_items:.1%} of the items")
    users = np.unique(test.users)
    retired = len(known_items) - round(shared_items * len(rows.dataset.item_ids))
    exact = serving / RETRIEVAL_EXACT / str(number)
    question = (
        rows.dataset.user_ids[users],
        DEPTH + _counts(rows.parts.train, users) + min(max(0, retired), _MOST_RETIRED),
        rows.dataset.item_ids,
    )
    try:
        ours, theirs = answers.ask([new, exact], *question)
    except VerificationError as error:
        answers.ask([new], *question)
        return _not_compared(number, f"it does not answer: {error}")
    shared_users = float(theirs.known.mean())
    if shared_users < _LEAST_SHARED:
        return _not_compared(number, f"it knows only {shared_users:.1%} of the users")
    value, before = (_top_100(one, users, rows, test) for one in (ours, theirs))
    text = (
        f"unseen_items top-100 is {value:.4f}, version {number}'s {before:.4f} on the same "
        f"{len(test):,} rows of {len(users):,} users; up to {settings.max_quality_loss:g} less "
        f"is allowed"
    )
    return Check(
        value >= before - settings.max_quality_loss,
        text,
        {
            "unseen_items_top_100": value,
            "serving_version": number,
            "serving_unseen_items_top_100": before,
            "max_quality_loss": settings.max_quality_loss,
            "rows": len(test),
            "users": len(users),
        },
    )


def _not_compared(version: int, why: str) -> Check:
    text = f"quality was not compared with version {version}: {why}"
    return Check(True, text, {"serving_version": version})


def _sampled(test: Interactions, most: int) -> Interactions:
    users = np.unique(test.users)
    if len(users) <= most:
        return test
    return test.take(np.isin(test.users, np.random.default_rng(0).choice(users, most, False)))


def _fresh(test: Interactions, dataset: Dataset, seen: Path) -> Interactions:
    """The rows that are not in a seen store."""
    connection = sqlite3.connect(f"{seen.resolve().as_uri()}?mode=ro", uri=True)
    try:
        seen_by = {
            user: {one for (one,) in connection.execute(SEEN_QUERY, [dataset.user_ids[user]])}
            for user in np.unique(test.users).tolist()
        }
    finally:
        connection.close()
    pairs = zip(test.users.tolist(), dataset.item_ids[test.items], strict=True)
    return test.take(np.array([item not in seen_by[user] for user, item in pairs], bool))


def _counts(train: Interactions, users: NDArray[np.int32]) -> NDArray[np.int64]:
    """Training rows of each of ``users``."""
    return np.bincount(train.users, minlength=int(users[-1]) + 1)[users].astype(np.int64)


def _top_100(
    given: answers.Answers, users: NDArray[np.int32], rows: TestRows, test: Interactions
) -> float:
    items = len(rows.dataset.item_ids)

    def score(asked: NDArray[np.int32]) -> NDArray[np.float32]:
        # The place in the answer, the first the highest; what was not answered is nowhere.
        scores = np.full((len(asked), items), -np.inf, np.float32)
        for row, user in enumerate(np.searchsorted(users, asked)):
            found = given.of(int(user))
            scores[row, found] = -np.arange(len(found))
        return scores

    train = rows.parts.train.take(np.isin(rows.parts.train.users, users))
    return evaluation.evaluate(score, train, test).unseen_items.top_100
