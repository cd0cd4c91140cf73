"""Turns histories into training steps, which are arrays of queries, targets and candidates.

A step is built in one of two ways:

By user  The items of each user are divided into a history, which is the query, and targets, which
         share that query and one set of candidates.
By row   Every query has one target, and the targets of the other rows are its negatives, as in the
         TensorFlow Recommenders in-batch softmax.

With *random* targets, the history is a random share of the user's items in a step by user, and all
other items in a step by row. With *future* targets, the history contains the items older than the
targets. History items are targets as well only if ``training.kept_weight`` is above 0.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.config import TrainingConfig
from trainer.data.histories import Histories

# The range of the share of a user's items that become the history, with random targets.
_KEPT_SHARE = (0.1, 0.9)
# The range of the share of a user's items that become targets, with future targets.
_FUTURE_SHARE = (0.05, 0.5)

#: The dtype of each array of a step, by name. All arrays are one-dimensional.
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
    """B queries with T targets, which the model learns to find among C candidates.

    Attributes:
        users: int [B], the user of each query.
        histories: the histories of the B queries.
        target_rows: int [T], the query of each target.
        target_columns: int [T], the position of each target among the candidates.
        target_weights: float [T], the weight of each target in the loss.
        target_ratings: float [T]; zeros without ratings.
        candidates: int [C], positions in the catalogue.
        log_expected: float [C], the logarithm of how often each candidate is expected to occur in
            a step.
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
        """Return the model inputs by name, with the dtypes in :data:`DTYPES`."""
        values = vars(self) | {
            "history_items": self.histories.items,
            "history_rows": self.histories.rows(),
            "history_ages": self.histories.newer_counts(),
        }
        return {name: values[name].astype(dtype) for name, dtype in DTYPES.items()}


class Batches:
    """Generates the training steps of each epoch, in a new order every time."""

    def __init__(
        self,
        histories: Histories,
        items: int,
        config: TrainingConfig,
        *,
        history_length: int,
        seed: int,
    ) -> None:
        """Prepare the steps.

        Args:
            histories: the training rows of all users.
            items: the number of items in the catalogue.
            config: the settings, with all automatic choices made (:func:`defaults.resolve`).
            history_length: the maximum number of newest items of a history that form a query.
            seed: seeds all random choices.
        """
        self._histories = histories
        self._config = config
        self._by_row = config.objective == "in_batch"
        self._has_future_targets = config.targets == "future"
        self._history_length = history_length
        self._rng = np.random.default_rng(seed)
        counts = np.bincount(histories.items, minlength=items)
        self._is_trained = counts > 0
        # Each item's share of the training rows.
        self._row_shares = counts / max(counts.sum(), 1)
        # The array to draw negatives from, and the probability that a draw returns each item.
        self._negative_pool: NDArray[np.integer] = histories.items
        self._draw_probabilities = self._row_shares
        if config.negatives_from == "uniform":
            self._negative_pool = np.flatnonzero(self._is_trained)
            self._draw_probabilities = self._is_trained / max(len(self._negative_pool), 1)
        # Steps by row have a query for each row; steps by user have a query for each user.
        all_rows, users = np.arange(len(histories.items)), np.flatnonzero(histories.lengths > 1)
        self._examples = all_rows if self._by_row else users

    def __len__(self) -> int:
        """The number of steps per epoch."""
        return math.ceil(len(self._examples) / self._config.batch_size)

    def epoch(self) -> Iterator[Step]:
        """Yield the steps of one epoch."""
        order = self._rng.permutation(self._examples)
        for start in range(0, len(order), self._config.batch_size):
            examples = order[start : start + self._config.batch_size]
            yield self._step_by_row(examples) if self._by_row else self._step_by_user(examples)

    def _step_by_user(self, users: NDArray[np.int64]) -> Step:
        """Divide the items of each of ``users`` into a history and targets."""
        histories = self._histories.take(users)
        rows, lengths = histories.rows(), histories.lengths
        if self._has_future_targets:
            shares = self._rng.uniform(*_FUTURE_SHARE, len(users))
            target_counts = np.clip((lengths * shares).astype(np.int64), 1, lengths - 1)
            kept = histories.newer_counts() >= target_counts[rows]
        else:
            shares = self._rng.uniform(*_KEPT_SHARE, len(users))
            kept = self._rng.random(len(rows)) < shares[rows]
            # Every user needs at least one target.
            without_target = np.flatnonzero(np.bincount(rows[~kept], minlength=len(users)) == 0)
            positions = self._rng.integers(lengths[without_target])
            kept[histories.offsets[without_target] + positions] = False
        # With future targets, the items of the history are not valid targets.
        kept_weight = 0.0 if self._has_future_targets else self._config.kept_weight
        weights = np.where(kept, kept_weight, 1.0)
        is_target = weights > 0
        candidates, columns, log_expected = self._candidates(histories.items[is_target])
        return Step(
            users=users,
            histories=histories.keep(kept).newest(self._history_length),
            target_rows=rows[is_target],
            target_columns=columns,
            target_weights=weights[is_target],
            target_ratings=_ratings(histories)[is_target],
            candidates=candidates,
            log_expected=log_expected,
        )

    def _step_by_row(self, positions: NDArray[np.int64]) -> Step:
        """Build one query for each target; ``positions`` locate the targets in the histories."""
        histories = self._histories
        users = np.searchsorted(histories.offsets, positions, side="right") - 1
        targets = histories.items[positions]
        queries = Histories(np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32))
        if self._history_length:
            queries = histories.take(users)
            if self._has_future_targets:
                target_ages = histories.offsets[1:][users] - 1 - positions
                queries = queries.keep(queries.newer_counts() > target_ages[queries.rows()])
            else:
                queries = queries.keep(queries.items != targets[queries.rows()])
            queries = queries.newest(self._history_length)
        negatives = self._draw_negatives()
        expected = [self._row_shares[targets], self._draw_probabilities[negatives]]
        target_numbers = np.arange(len(positions))
        return Step(
            users=users,
            histories=queries,
            target_rows=target_numbers,
            target_columns=target_numbers,
            target_weights=np.ones(len(positions)),
            target_ratings=_ratings(histories)[positions],
            candidates=np.concatenate([targets, negatives]),
            log_expected=np.log(np.concatenate(expected)),
        )

    def _candidates(
        self, targets: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the candidates, the target positions among the candidates, and ``log_expected``.

        The candidates are all items with training rows, or the targets and sampled other items.
        Every item is a candidate at most once.
        """
        is_candidate = self._is_trained
        log_expected = np.zeros(len(is_candidate))
        if self._config.objective == "sampled_softmax":
            is_candidate = np.zeros(len(is_candidate), bool)
            is_candidate[targets] = True
            is_candidate[self._draw_negatives()] = True
            # The log probability that an item is neither a target nor drawn as a negative.
            log_absent = len(targets) * np.log1p(-np.minimum(self._row_shares, 0.5))
            log_absent += self._config.negatives * np.log1p(
                -np.minimum(self._draw_probabilities, 0.5)
            )
            log_expected = np.log(np.maximum(-np.expm1(log_absent), 1e-9))
        candidates = np.flatnonzero(is_candidate)
        columns = np.cumsum(is_candidate) - 1
        return candidates, columns[targets], log_expected[candidates]

    def _draw_negatives(self) -> NDArray[np.int64]:
        """Draw items that have training rows, with replacement."""
        pool = self._negative_pool
        drawn = self._rng.integers(len(pool), size=self._config.negatives)
        return pool[drawn].astype(np.int64)


def _ratings(histories: Histories) -> NDArray[np.float32]:
    if histories.ratings is None:
        return np.zeros(len(histories.items), np.float32)
    return histories.ratings
