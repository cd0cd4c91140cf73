"""Cuts histories into training steps: queries, targets and candidates as arrays.

Steps are made in one of two ways. *By user*: the items of a user are divided into a history, which
is the query, and targets, which share that query and one set of candidates. *By row*: every query
has one target, and the targets of the other rows are its negatives, as in the in-batch softmax of
TensorFlow Recommenders.

With *random* targets a random share of the items is the history, with *future* targets the items
before a point in time. A target of full weight is never part of its own query.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.config import TrainingConfig
from trainer.data.histories import Histories

# Bounds of the share of a user's items that are the history, with random targets.
_KEPT_SHARE = (0.1, 0.9)
# Bounds of the share of a user's items, the newest ones, that are targets, with future targets.
_FUTURE_SHARE = (0.05, 0.5)


#: Types of the arrays of a step, which all have one dimension.
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
    """B queries with T targets, which are to be found among C candidates.

    Attributes:
        users: int [B].
        histories: the histories of the B queries.
        target_rows: int [T], the query of each target.
        target_columns: int [T], the position of each target among the candidates.
        target_weights: float [T].
        target_ratings: float [T]; zeros without ratings.
        candidates: int [C], positions in the catalogue.
        log_expected: float [C], logarithm of the number of times that each candidate is expected
            among the candidates of a step.
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
        """Return the model's input by name, with the types of :data:`DTYPES`."""
        values = vars(self) | {
            "history_items": self.histories.items,
            "history_rows": self.histories.rows(),
            "history_ages": self.histories.ages(),
        }
        return {name: values[name].astype(dtype) for name, dtype in DTYPES.items()}


class Batches:
    """Makes the steps of each epoch from the training rows of all users, in a new order every time.

    The ``history_length`` newest items of a history make up a query. In ``config``, all automatic
    choices must have been made.
    """

    def __init__(
        self,
        histories: Histories,
        items: int,
        config: TrainingConfig,
        *,
        history_length: int,
        seed: int,
    ) -> None:
        self._histories = histories
        self._config = config
        self._by_row = config.objective == "in_batch"
        self._future = config.targets == "future"
        self._history_length = history_length
        self._random = np.random.default_rng(seed)
        self._counts = np.bincount(histories.items, minlength=items)
        self._full = config.objective == "full_softmax"
        all_rows, users = np.arange(len(histories.items)), np.flatnonzero(histories.lengths > 1)
        self._examples = all_rows if self._by_row else users

    def __len__(self) -> int:
        """The number of steps per epoch."""
        return -(-len(self._examples) // self._config.batch_size)

    def epoch(self) -> Iterator[Step]:
        """Yield the steps of one epoch."""
        order = self._random.permutation(self._examples)
        for start in range(0, len(order), self._config.batch_size):
            chosen = order[start : start + self._config.batch_size]
            yield self._step_by_row(chosen) if self._by_row else self._step_by_user(chosen)

    def _step_by_user(self, users: NDArray[np.int64]) -> Step:
        """Divide the items of each of ``users`` into a history and targets."""
        full = self._histories.take(users)
        rows, ages = full.rows(), full.ages()
        lengths = full.lengths
        if self._future:
            share = self._random.uniform(*_FUTURE_SHARE, len(users))
            targets_each = np.clip((lengths * share).astype(np.int64), 1, lengths - 1)
            kept = ages >= targets_each[rows]
        else:
            share = self._random.uniform(*_KEPT_SHARE, len(users))
            kept = self._random.random(len(rows)) < share[rows]
            # Every user needs at least one target.
            all_kept = np.flatnonzero(np.bincount(rows[~kept], minlength=len(users)) == 0)
            position = self._random.integers(lengths[all_kept])
            kept[full.offsets[all_kept] + position] = False
        # Past items are not valid predictions of what comes next.
        kept_weight = 0.0 if self._future else self._config.kept_weight
        weights = np.where(kept, kept_weight, 1.0)
        is_target = weights > 0
        targets = full.items[is_target]
        candidates, columns, log_expected = self._candidates(targets)
        query = full.keep(kept).newest(self._history_length)
        return Step(
            *(users, query, rows[is_target], columns, weights[is_target]),
            *(_ratings(full)[is_target], candidates, log_expected),
        )

    def _step_by_row(self, positions: NDArray[np.int64]) -> Step:
        """Make one query for each target, given the ``positions`` of targets in the histories."""
        histories = self._histories
        users = np.searchsorted(histories.offsets, positions, side="right") - 1
        no_histories = Histories(np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32))
        query = histories.take(users) if self._history_length else no_histories
        targets = histories.items[positions]
        if self._future:
            age = histories.offsets[1:][users] - 1 - positions
            query = query.keep(query.ages() > age[query.rows()])
        else:
            query = query.keep(query.items != targets[query.rows()])
        negatives = self._negatives()
        candidates = np.concatenate([targets, negatives])
        probability = np.maximum(self._counts, 1) / self._counts.sum()
        log_expected = np.log(probability[candidates])
        log_expected[len(targets) :] = np.log(self._draw_probability()[negatives])
        numbers = np.arange(len(positions))
        query = query.newest(self._history_length)
        weights = np.ones(len(positions))
        ratings = _ratings(histories)[positions]
        return Step(users, query, numbers, numbers, weights, ratings, candidates, log_expected)

    def _candidates(
        self, targets: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the candidates, the column of each target among them, and ``log_expected``.

        The candidates are all items with training rows, or the targets and a sample of the others.
        Every item is a candidate at most once.
        """
        is_candidate = np.zeros(len(self._counts), bool)
        if self._full:
            is_candidate = self._counts > 0
        else:
            is_candidate[targets] = True
            is_candidate[self._negatives()] = True
        column = np.cumsum(is_candidate) - 1
        candidates = np.flatnonzero(is_candidate)
        if self._full:
            return candidates, column[targets], np.zeros(len(candidates))
        # The probability that an item is neither a target nor drawn as a negative.
        log_absent = len(targets) * np.log1p(-np.minimum(self._counts / self._counts.sum(), 0.5))
        log_absent += self._config.negatives * np.log1p(-np.minimum(self._draw_probability(), 0.5))
        log_expected = np.log(np.maximum(-np.expm1(log_absent), 1e-9))
        return candidates, column[targets], log_expected[candidates]

    def _negatives(self) -> NDArray[np.int64]:
        """Draw items that have training rows, with replacement."""
        trained = np.flatnonzero(self._counts)
        if self._config.negatives_from == "uniform":
            return trained[self._random.integers(len(trained), size=self._config.negatives)]
        drawn = self._random.integers(len(self._histories.items), size=self._config.negatives)
        return self._histories.items[drawn].astype(np.int64)

    def _draw_probability(self) -> NDArray[np.float64]:
        """Return the probability of each item in one draw of :meth:`_negatives`, float64 [N]."""
        if self._config.negatives_from == "uniform":
            return (self._counts > 0) / np.count_nonzero(self._counts)
        share: NDArray[np.float64] = self._counts / self._counts.sum()
        return share


def _ratings(histories: Histories) -> NDArray[np.float32]:
    if histories.ratings is None:
        return np.zeros(len(histories.items), np.float32)
    return histories.ratings
