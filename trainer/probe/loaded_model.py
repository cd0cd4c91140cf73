"""A loaded SavedModel and the requests that can be sent to it."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving_contract import VECTOR, K
from trainer.artifact import saved_model
from trainer.errors import VerificationError
from trainer.index import kinds

Arrays = dict[str, NDArray[Any]]

# An exact model scores the whole catalogue for every row of a batch: at most 128 MB of float32.
SCORES_AT_ONCE = 32_000_000
# Candidates of all rows of a batch.
_CANDIDATES_AT_ONCE = 1_000_000
# The number of timed answers by batch size, and the time after which timing ends early.
_TIMED_ANSWERS = {1: 200, 32: 50}
_MAX_TIMED_S = 3.0


class LoadedModel:
    """A SavedModel that was loaded from its directory."""

    def __init__(self, directory: Path, name: str, items: int) -> None:
        """Load a model, which error messages call ``name``, of a catalogue of ``items`` items.

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
        """Ask for ``k`` candidates for every row of the inputs, in batches."""
        rows = len(next(iter(inputs.values())))
        answers = [
            self.ask_batch(
                signature,
                {name: values[batch] for name, values in inputs.items()},
                np.full(len(range(rows)[batch]), k, np.int32),
            )
            for batch in self.batches(rows, k)
        ]
        return {key: np.concatenate([answer[key] for answer in answers]) for key in answers[0]}

    def ask_batch(self, signature: str, inputs: Mapping[str, Any], ks: NDArray[Any]) -> Arrays:
        """Ask for ``ks[i]`` candidates for row i of the inputs, in one batch."""
        self.require(signature in self.signatures, f"it has no signature {signature}")
        tensors = {
            name: tf.constant(values if name == VECTOR else values.tolist())
            for name, values in inputs.items()
        }
        answer = self._loaded.signatures[signature](**tensors, **{K: tf.constant(ks, tf.int32)})
        return {key: value.numpy() for key, value in answer.items()}

    def batches(self, rows: int, k: int) -> list[slice]:
        """Divide rows into batches whose scores and candidates fit into memory."""
        size = min(SCORES_AT_ONCE // self._items, _CANDIDATES_AT_ONCE // max(1, k))
        return [slice(start, start + max(1, size)) for start in range(0, rows, max(1, size))]

    def warmup_requests(self) -> Iterator[tuple[str, Arrays]]:
        """Yield signature and inputs, ``k`` included, of the SavedModel's warm-up requests."""
        return saved_model.read_warmup(self._directory)

    def median_seconds(self, signature: str, inputs: Arrays, batch: int, k: int) -> float:
        """Return the median time of an answer to ``batch`` rows of the inputs."""
        repeated = {
            name: np.resize(values[:batch], (batch, *values.shape[1:]))
            for name, values in inputs.items()
        }
        ks = np.full(batch, k, np.int32)
        self.ask_batch(signature, repeated, ks)
        times: list[float] = []
        while len(times) < _TIMED_ANSWERS[batch] and sum(times) < _MAX_TIMED_S:
            started = time.perf_counter()
            self.ask_batch(signature, repeated, ks)
            times.append(time.perf_counter() - started)
        return float(np.median(times))

    def require(self, condition: bool, problem: str) -> None:
        """Raise a VerificationError that states the problem unless the condition holds."""
        if not condition:
            raise VerificationError(f"{self.name}: {problem}")
