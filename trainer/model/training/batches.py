"""Training steps as arrays: whose histories, which targets, which candidates.

Two ways to cut the rows into steps. *By user*: a user's items are divided into a history that
makes the query and targets that it must find, all against one set of candidates; one query
serves all of the user's targets. *By row*: one target per query, and the other rows' targets are
its negatives; for the in-batch softmax of TensorFlow Recommenders.

What is divided how: *random* keeps a random share of the items, *future* the items before a
point in the history. Either way a target that counts in full is never in its own query.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.config import TrainingConfig
from trainer.data.histories import Histories

# Bounds of the share of a user's items that become the history of a step, random targets.
_KEPT_SHARE = (0.1, 0.9)
# Bounds of the share, of the newest, that become targets, future targets.
_FUTURE_SHARE = (0.05, 0.5)


#: The arrays of a step, each of one dimension.
DTYPES: dict[str, type[np.generic]] = {
    "users": np.int32,
    "history_items": np.int32,
    "history_rows": np.int32,
    "history_ages": np.int32,
    "target_rows": np.int32,
    "target_columns": np.int32,
    "target_weights": np.float32,
    "target_ratings": np.float32,
    "candidates": np.int32,
    "log_expected": np.float32,
}


@dataclass(frozen=True, eq=False)
class Step:
    """B queries, their T targets, and C candidates to find these among.

    Attributes:
        users: int [B].
        histories: of the B queries.
        target_rows: int [T], the query of each target.
        target_columns: int [T], the candidate that each target is.
        target_weights: float [T].
        target_ratings: float [T]; all 0 where nobody rated.
        candidates: int [C], positions in the catalogue.
        log_expected: float [C], logarithm of how often each is expected to be a candidate.
    """

    users: NDArray[np.integer]
    histories: Histories
    target_rows: NDArray[np.integer]
    target_columns: NDArray[np.integer]
    target_weights: NDArray[np.floating]
    target_ratings: NDArray[np.floating]
    candidates: NDArray[np.integer]
    log_expected: NDArray[np.floating]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What the model is fed, by name, in the types of :data:`DTYPES`."""
        values = {
            "users": self.users,
            "history_items": self.histories.items,
            "history_rows": self.histories.rows(),
            "history_ages": self.histories.ages(),
            "target_rows": self.target_rows,
            "target_columns": self.target_columns,
            "target_weights": self.target_weights,
            "target_ratings": self.target_ratings,
            "candidates": self.candidates,
            "log_expected": self.log_expected,
        }
        return {name: values[name].astype(dtype) for name, dtype in DTYPES.items()}


class Batches:
    """One epoch after the other of steps, in a new order each."""

    def __init__(
        self,
        histories: Histories,
        items: int,
        config: TrainingConfig,
        *,
        history_length: int,
        seed: int,
    ) -> None:
        """Prepare.

        Args:
            histories: the training rows of all users.
            items: number of items N in the catalogue.
            config: of the training, with nothing left open.
            history_length: how many of the newest items of a history make a query.
            seed: of the order and of all that is drawn.
        """
        self._histories = histories
        self._config = config
        self._by_row = config.objective == "in_batch"
        self._future = config.targets == "future"
        self._history_length = history_length
        self._random = np.random.default_rng(seed)
        self._counts = np.bincount(histories.items, minlength=items)
        self._full = config.objective == "full_softmax"
        self._places = (
            np.arange(len(histories.items))
            if self._by_row
            else np.flatnonzero(histories.lengths > 1)
        )

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-len(self._places) // self._config.batch_size)

    def epoch(self) -> Iterator[Step]:
        """The steps of one epoch."""
        order = self._random.permutation(self._places)
        for start in range(0, len(order), self._config.batch_size):
            chosen = order[start : start + self._config.batch_size]
            yield self._rows(chosen) if self._by_row else self._users(chosen)

    def _users(self, users: NDArray[np.int64]) -> Step:
        """Divide the items of ``users``."""
        whole = self._histories.take(users)
        rows, ages = whole.rows(), whole.ages()
        lengths = whole.lengths
        if self._future:
            share = self._random.uniform(*_FUTURE_SHARE, len(users))
            later = np.clip((lengths * share).astype(np.int64), 1, lengths - 1)
            kept = ages >= later[rows]
        else:
            share = self._random.uniform(*_KEPT_SHARE, len(users))
            kept = self._random.random(len(rows)) < share[rows]
            # Whoever would have nothing to find has one of the items to find.
            all_kept = np.flatnonzero(np.bincount(rows[~kept], minlength=len(users)) == 0)
            place = self._random.integers(lengths[all_kept])
            kept[whole.offsets[all_kept] + place] = False
        # Where the task is what comes next, what was already done is no answer.
        kept_weight = 0.0 if self._future else self._config.kept_weight
        weights = np.where(kept, kept_weight, 1.0)
        is_target = weights > 0
        targets = whole.items[is_target]
        candidates, columns, log_expected = self._candidates(targets)
        query = whole.keep(kept).newest(self._history_length)
        return Step(
            *(users, query, rows[is_target], columns, weights[is_target]),
            *(_ratings(whole)[is_target], candidates, log_expected),
        )

    def _rows(self, places: NDArray[np.int64]) -> Step:
        """One target each, at ``places`` in the histories; the query is what is left."""
        histories = self._histories
        users = np.searchsorted(histories.offsets, places, side="right") - 1
        query = histories.take(users) if self._history_length else _empty(len(users))
        targets = histories.items[places]
        if self._future:
            age = histories.offsets[1:][users] - 1 - places
            query = query.keep(query.ages() > age[query.rows()])
        else:
            query = query.keep(query.items != targets[query.rows()])
        extra = self._negatives()
        candidates = np.concatenate([targets, extra])
        probability = np.maximum(self._counts, 1) / self._counts.sum()
        log_expected = np.log(probability[candidates])
        log_expected[len(targets) :] = np.log(self._draw_probability()[extra])
        number = np.arange(len(places))
        query = query.newest(self._history_length)
        weights = np.ones(len(places))
        ratings = _ratings(histories)[places]
        return Step(users, query, number, number, weights, ratings, candidates, log_expected)

    def _candidates(
        self, targets: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Each item once: those with training rows, or the targets and a sample of the others."""
        among = np.zeros(len(self._counts), bool)
        if self._full:
            among = self._counts > 0
        else:
            among[targets] = True
            among[self._negatives()] = True
        column = np.cumsum(among) - 1
        candidates = np.flatnonzero(among)
        if self._full:
            return candidates, column[targets], np.zeros(len(candidates))
        # How likely an item is to be here at all: as one of the targets, or drawn.
        absent = len(targets) * np.log1p(-np.minimum(self._counts / self._counts.sum(), 0.5))
        absent += self._config.negatives * np.log1p(-np.minimum(self._draw_probability(), 0.5))
        log_expected = np.log(np.maximum(-np.expm1(absent), 1e-9))
        return candidates, column[targets], log_expected[candidates]

    def _negatives(self) -> NDArray[np.int64]:
        """Items drawn with replacement among those with training rows."""
        trained = np.flatnonzero(self._counts)
        if self._config.negatives_from == "uniform":
            return trained[self._random.integers(len(trained), size=self._config.negatives)]
        drawn = self._random.integers(len(self._histories.items), size=self._config.negatives)
        return self._histories.items[drawn].astype(np.int64)

    def _draw_probability(self) -> NDArray[np.float64]:
        """Of each item, in one draw of :meth:`_negatives`: float64 [N]."""
        if self._config.negatives_from == "uniform":
            return (self._counts > 0) / np.count_nonzero(self._counts)
        share: NDArray[np.float64] = self._counts / self._counts.sum()
        return share


def _ratings(histories: Histories) -> NDArray[np.float32]:
    if histories.ratings is None:
        return np.zeros(len(histories.items), np.float32)
    return histories.ratings


def _empty(queries: int) -> Histories:
    return Histories(np.zeros(queries + 1, np.int64), np.zeros(0, np.int32))
