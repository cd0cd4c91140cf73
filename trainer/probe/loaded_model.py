"""Loads a SavedModel into the current process, and queries the model."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving_contract import VECTOR, K
from trainer.artifact import warmup
from trainer.errors import VerificationError
from trainer.index import kinds

Arrays = dict[str, NDArray[Any]]

#: The maximum number of scores per batch, 128 MB of float32. An exact model scores the whole
#: catalogue for every row of a batch.
MAX_SCORES = 32_000_000
# The maximum number of candidates in the answer to a batch.
_MAX_CANDIDATES = 1_000_000
# The number of timed batches by batch size, and the seconds after which timing ends early.
_TIMED_BATCHES = {1: 200, 32: 50}
_MAX_TIMED_S = 3.0


class LoadedModel:
    """A SavedModel that was loaded from its directory.

    Attributes:
        name: the name of the model in error messages.
    """

    def __init__(self, directory: Path, name: str, items: int) -> None:
        """Load a model.

        Args:
            directory: the directory of the SavedModel.
            name: the name of the model in error messages.
            items: the number of items in the model's catalogue, which limits the batch size.

        Raises:
            VerificationError: the model cannot be loaded.
        """
        kinds.register_ops()
        self.name = name
        self._items = max(1, items)
        self._directory = directory
        try:
            # The reference keeps the model's variables alive.
            self._loaded = tf.saved_model.load(str(directory))
        except (OSError, ValueError, LookupError, tf.errors.OpError) as error:
            raise VerificationError(
                f"{name}: cannot be loaded: {' '.join(str(error).split())}"
            ) from error

    @property
    def signatures(self) -> set[str]:
        """The names of the model's signatures."""
        return set(self._loaded.signatures)

    def ask(self, signature: str, inputs: Arrays, k: int) -> Arrays:
        """Return the outputs for ``k`` candidates per input row, by name; rows run in batches."""
        rows = len(next(iter(inputs.values())))
        ks = np.full(rows, k, np.int32)
        answers = [
            self.ask_batch(
                signature, {name: values[batch] for name, values in inputs.items()}, ks[batch]
            )
            for batch in self.batches(rows, k)
        ]
        return {key: np.concatenate([answer[key] for answer in answers]) for key in answers[0]}

    def ask_batch(self, signature: str, inputs: Mapping[str, Any], ks: NDArray[Any]) -> Arrays:
        """Return the model's outputs for ``ks[i]`` candidates for input row i, in one batch."""
        self.require(signature in self.signatures, f"it has no signature {signature}")
        tensors = {
            name: tf.constant(values if name == VECTOR else values.tolist())
            for name, values in inputs.items()
        }
        answer = self._loaded.signatures[signature](**tensors, **{K: tf.constant(ks, tf.int32)})
        return {key: value.numpy() for key, value in answer.items()}

    def batches(self, rows: int, k: int) -> list[slice]:
        """Divide row numbers into batches whose scores and candidates fit into memory."""
        size = max(1, min(MAX_SCORES // self._items, _MAX_CANDIDATES // max(1, k)))
        return [slice(start, start + size) for start in range(0, rows, size)]

    def warmup_requests(self) -> Iterator[tuple[str, Arrays]]:
        """Yield the signature and the inputs, including ``k``, of each warm-up request."""
        return warmup.read(self._directory)

    def median_seconds(self, signature: str, inputs: Arrays, batch: int, k: int) -> float:
        """Return the median time for a batch of ``batch`` input rows, which must be 1 or 32."""
        repeated = {
            name: np.resize(values[:batch], (batch, *values.shape[1:]))
            for name, values in inputs.items()
        }
        ks = np.full(batch, k, np.int32)
        self.ask_batch(signature, repeated, ks)
        durations: list[float] = []
        while len(durations) < _TIMED_BATCHES[batch] and sum(durations) < _MAX_TIMED_S:
            start = time.perf_counter()
            self.ask_batch(signature, repeated, ks)
            durations.append(time.perf_counter() - start)
        return float(np.median(durations))

    def require(self, condition: bool | np.bool_, problem: str) -> None:
        """If ``condition`` is false, raise a VerificationError with the model name and problem."""
        if not condition:
            raise VerificationError(f"{self.name}: {problem}")
