"""Keras callbacks: a progress bar and early stopping."""

from collections.abc import Callable
from typing import Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar(tf.keras.callbacks.Callback):
    """A progress bar across all epochs that shows the epoch, the loss and the remaining time."""

    def __init__(self, console: Console, epochs: int, steps: int) -> None:
        super().__init__()
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console)
        self._epochs = epochs
        self._task = self._bar.add_task("training", total=epochs * steps)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Stop after an exception as well: a running bar would garble the error message.
        self._bar.stop()

    def on_train_batch_end(self, batch: int, logs: object) -> None:  # noqa: ARG002
        """Advance the bar by one step."""
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Show the loss and the validation metric."""
        description = f"epoch {epoch + 1}/{self._epochs}, loss {logs['total_loss']:,.3f}"
        if "validation" in logs:
            description += f", validation {logs['validation']:.4f}"
        self._bar.update(self._task, description=description)


class EarlyStopping(tf.keras.callbacks.Callback):
    """Ends training when the validation metric stalls, and restores the best epoch's weights.

    Attributes:
        metric_by_epoch: the validation metric of every epoch so far.
    """

    def __init__(self, measure: Callable[[], float], patience: int) -> None:
        """Create the callback.

        Args:
            measure: returns the validation metric of the current weights; higher is better.
            patience: the number of epochs without improvement after which training ends.
        """
        super().__init__()
        self._measure, self._patience = measure, patience
        self.metric_by_epoch: list[float] = []
        self._best_weights: list[NDArray[np.float32]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Measure the model, keep the best weights, and end training if patience is exhausted."""
        self.metric_by_epoch.append(self._measure())
        logs["validation"] = self.metric_by_epoch[-1]
        best_epoch = int(np.argmax(self.metric_by_epoch))
        if best_epoch == epoch:
            self._best_weights = self.model.get_weights()
        elif epoch - best_epoch >= self._patience:
            self.model.stop_training = True

    def on_train_end(self, logs: object) -> None:  # noqa: ARG002
        """Restore the weights of the best epoch."""
        self.model.set_weights(self._best_weights)


class StopUnless(tf.keras.callbacks.Callback):
    """Ends training when ``should_continue``, called with the loss of each epoch, returns False."""

    def __init__(self, should_continue: Callable[[float], bool]) -> None:
        super().__init__()
        self._should_continue = should_continue

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:  # noqa: ARG002
        """Stop training unless ``should_continue`` returns True for the loss."""
        if not self._should_continue(logs["total_loss"]):
            self.model.stop_training = True
