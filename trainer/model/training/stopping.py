"""What ends a training before its last epoch."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class BestEpoch(tf.keras.callbacks.Callback):
    """Ends it when the validation gets no better, and goes back to the best epoch."""

    def __init__(self, measure: Callable[[], float], values: list[float], patience: int) -> None:
        """Prepare.

        Args:
            measure: the model as it is on the validation rows; higher is better.
            values: where they go, epoch by epoch.
            patience: epochs without a better one after which it ends.
        """
        super().__init__()
        self._measure, self._values, self._patience = measure, values, patience
        self._best: list[NDArray[np.float32]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Measure."""
        self._values.append(self._measure())
        if logs is not None:
            logs["validation"] = self._values[-1]
        best = int(np.argmax(self._values))
        if best == epoch:
            self._best = self.model.get_weights()
        elif epoch - best >= self._patience:
            self.model.stop_training = True

    def on_train_end(self, logs: object = None) -> None:  # noqa: ARG002
        """Go back."""
        self.model.set_weights(self._best)


class Asked(tf.keras.callbacks.Callback):
    """Ends it when whoever wanted the training wants no more of it."""

    def __init__(self, go_on: Callable[[float], bool]) -> None:
        super().__init__()
        self._go_on = go_on

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Ask."""
        if not self._go_on((logs or {})["total_loss"]):
            self.model.stop_training = True
