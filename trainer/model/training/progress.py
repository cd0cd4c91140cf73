"""Shows training as a progress bar with the epoch, the loss and the remaining time."""

from typing import Self

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar(tf.keras.callbacks.Callback):
    """One progress bar for all epochs."""

    def __init__(self, console: Console, epochs: int, steps: int) -> None:
        super().__init__()
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console)
        self._epochs = epochs
        self._task = self._bar.add_task("training", total=epochs * steps)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        # Also after an error, whose message a live bar would garble.
        self._bar.stop()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:  # noqa: ARG002
        """Advance the bar by one step."""
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show the loss and the validation result."""
        description = f"epoch {epoch + 1}/{self._epochs}, loss {(logs or {})['total_loss']:,.3f}"
        if "validation" in (logs or {}):
            description += f", validation {(logs or {})['validation']:.4f}"
        self._bar.update(self._task, description=description)
