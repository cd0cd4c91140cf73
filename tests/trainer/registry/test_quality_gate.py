"""The quality gate: recall within its tolerance, and quality on rows new to both versions."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.trainer.registry.planted import ITEMS, USERS, Planted, held_out, held_out_rows
from trainer.artifact import side_files
from trainer.config import GateConfig
from trainer.data.types import Interactions, Split
from trainer.errors import VerificationError
from trainer.probe.rankings import Rankings
from trainer.registry.quality_gate import HeldOutRows, check_recall, compare_quality
from trainer.registry.version_record import VersionRecord

NEW = Path("new")


@pytest.mark.parametrize(
    ("recall", "error", "passes"),
    [(0.95, 0.0, True), (0.949, 0.0, False), (0.949, 0.001, True), (0.949, 0.0004, False)],
)
def test_recall_may_miss_the_target_by_two_standard_errors(
    recall: float, error: float, passes: bool
) -> None:
    check = check_recall({"recall_at_100": recall, "recall_at_100_error": error}, 0.95)
    assert check.passed is passes
    assert ("accurate to" in check.text) is (passes and recall < 0.95)
    assert check.values == {"recall_at_100": recall, "standard_error": error, "target": 0.95}


@pytest.fixture
def rows() -> HeldOutRows:
    return held_out_rows()


@pytest.fixture
def served(tmp_path: Path, rows: HeldOutRows) -> Path:
    """The directory of version 7, which held out the same rows. It has no models."""
    directory = tmp_path / "7"
    directory.mkdir()
    side_files.write(directory, rows.dataset)
    VersionRecord(7, "", "run", "", ITEMS, 0.5, 1.0, {}, rows.fingerprint()).write(directory)
    return directory


@dataclass
class FakeRanker:
    """Ranks by given scores instead of asking models: first the new version's, then the other's."""

    scores: tuple[NDArray[np.float32], NDArray[np.float32]]
    known: bool = True
    broken: Path | None = None
    users: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)

    def __call__(
        self,
        models: list[Path],
        user_ids: NDArray[np.object_],
        depths: NDArray[np.int64],
        _item_ids: NDArray[np.object_],
    ) -> list[Rankings]:
        if any(self.broken in (model, *model.parents) for model in models):
            raise VerificationError(f"{self.broken} is broken")
        self.users = [int(user[1:]) for user in user_ids]
        self.depths = depths.tolist()
        return [self._rankings(scores) for scores in self.scores]

    def _rankings(self, scores: NDArray[np.float32]) -> Rankings:
        lists = [
            np.argsort(-scores[user])[:depth]
            for user, depth in zip(self.users, self.depths, strict=True)
        ]
        return Rankings(
            np.concatenate(lists).astype(np.int32),
            np.cumsum([0, *map(len, lists)]),
            np.full(len(lists), self.known),
        )


def _ranker(rows: HeldOutRows, new: float, before: float) -> FakeRanker:
    return FakeRanker((Planted(rows, new).scores(), Planted(rows, before).scores()))


def test_worse_version_fails_and_better_version_passes(rows: HeldOutRows, served: Path) -> None:
    worse = compare_quality(NEW, served, rows, GateConfig(), _ranker(rows, 0.2, 0.9))
    better = compare_quality(NEW, served, rows, GateConfig(), _ranker(rows, 0.9, 0.2))
    assert (worse.passed, better.passed) == (False, True)
    lenient = GateConfig(max_quality_loss=0.9)
    assert compare_quality(NEW, served, rows, lenient, _ranker(rows, 0.2, 0.9)).passed


def test_rows_that_the_served_version_has_seen_are_left_out(
    rows: HeldOutRows, served: Path
) -> None:
    rank = _ranker(rows, 0.0, 1.0)
    assert not compare_quality(NEW, served, rows, GateConfig(), rank).passed
    # With another split of the same data, the served version was trained on every test row.
    other = held_out(rows.dataset, seed=1)
    check = compare_quality(NEW, served, other, GateConfig(), rank)
    assert check.passed
    assert "trained on other rows, and only 0 of these test rows are new to it" in check.text
    # Rows that are new to both versions are compared.
    interactions, test = rows.dataset.interactions, other.parts.test
    seen = set(zip(interactions.users, interactions.items, strict=True))
    new = [(u, i) for u in range(USERS) for i in range(ITEMS) if (u, i) not in seen][::50]
    users, items = np.array(new, np.int32).T
    more = Interactions(np.append(test.users, users), np.append(test.items, items))
    later = replace(other, parts=Split("random", other.parts.train, more))
    check = compare_quality(NEW, served, later, GateConfig(), rank)
    assert check.values["rows"] == len(new) > 200


def test_served_version_of_unrelated_data_is_not_compared(rows: HeldOutRows, served: Path) -> None:
    rank = replace(_ranker(rows, 0.0, 1.0), known=False)
    check = compare_quality(NEW, served, rows, GateConfig(), rank)
    assert check.passed
    assert "knows only 0.0% of the users" in check.text
    side_files.write_items(served / "items.csv", [("other", "Other")])
    check = compare_quality(NEW, served, rows, GateConfig(), rank)
    assert check.passed
    assert "knows only 0.0% of the items" in check.text


def test_broken_served_version_does_not_keep_the_new_one_back(
    rows: HeldOutRows, served: Path
) -> None:
    rank = replace(_ranker(rows, 0.0, 1.0), broken=served)
    check = compare_quality(NEW, served, rows, GateConfig(), rank)
    assert check.passed
    assert f"with version 7: it does not answer: {served} is broken" in check.text
    (served / "version.json").write_text("{}")
    check = compare_quality(NEW, served, rows, GateConfig(), rank)
    assert check.passed
    assert "with version 7: it cannot be read" in check.text


def test_broken_new_version_is_an_error(rows: HeldOutRows, served: Path) -> None:
    rank = replace(_ranker(rows, 1.0, 1.0), broken=NEW)
    with pytest.raises(VerificationError, match="new is broken"):
        compare_quality(NEW, served, rows, GateConfig(), rank)


def test_users_are_sampled_and_asked_for_enough_candidates(rows: HeldOutRows, served: Path) -> None:
    rank = _ranker(rows, 1.0, 1.0)
    check = compare_quality(NEW, served, rows, GateConfig(users=10), rank)
    assert check.values["users"] == len(rank.users) == 10
    # 100 candidates are left even if all of a user's training items are among those returned.
    training_rows = np.bincount(rows.parts.train.users, minlength=USERS)
    assert rank.depths == (100 + training_rows[rank.users]).tolist()


def test_fingerprint_depends_on_the_pairs_and_not_on_their_order(rows: HeldOutRows) -> None:
    test = rows.parts.test
    shuffled = test.take(np.random.default_rng(0).permutation(len(test)))
    assert replace(rows, parts=Split("", rows.parts.train, shuffled)).fingerprint() == (
        rows.fingerprint()
    )
    assert held_out(rows.dataset, 1).fingerprint() != rows.fingerprint()
    other_pairs = Interactions(shuffled.users, np.roll(shuffled.items, 1))
    assert replace(rows, parts=Split("", rows.parts.train, other_pairs)).fingerprint() != (
        rows.fingerprint()
    )
