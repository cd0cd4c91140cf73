"""Keras callbacks that end training before the last epoch."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class BestEpoch(tf.keras.callbacks.Callback):
    """Ends training when validation stops improving, and restores the best epoch."""

    def __init__(self, measure: Callable[[], float], values: list[float], patience: int) -> None:
        """Create the callback.

        Args:
            measure: returns the current model's metric on the validation rows; higher is better.
            values: a list to which the metric of every epoch is appended.
            patience: number of epochs without a better metric after which training ends.
        """
        super().__init__()
        self._measure, self._values, self._patience = measure, values, patience
        self._best_weights: list[NDArray[np.float32]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Measure the model, keep the best weights, and end training if patience is exhausted."""
        self._values.append(self._measure())
        if logs is not None:
            logs["validation"] = self._values[-1]
        best = int(np.argmax(self._values))
        if best == epoch:
            self._best_weights = self.model.get_weights()
        elif epoch - best >= self._patience:
            self.model.stop_training = True

    def on_train_end(self, logs: object = None) -> None:  # noqa: ARG002
        """Restore the weights of the best epoch."""
        self.model.set_weights(self._best_weights)


class StopOnRequest(tf.keras.callbacks.Callback):
    """Ends training when ``go_on``, which gets the loss of the epoch, returns False."""

    def __init__(self, go_on: Callable[[float], bool]) -> None:
        super().__init__()
        self._go_on = go_on

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Ask whether to continue."""
        if not self._go_on((logs or {})["total_loss"]):
            self.model.stop_training = True
