"""Training as one bar on the terminal: the epoch, how good it is, the time that remains."""

from typing import Self

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar(tf.keras.callbacks.Callback):
    """One bar for the whole training."""

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
        # However the training ended: an error's message should not meet a live bar.
        self._bar.stop()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:  # noqa: ARG002
        """One step further."""
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Say how good it is by now."""
        said = f"epoch {epoch + 1}/{self._epochs}, loss {(logs or {})['total_loss']:,.3f}"
        if "validation" in (logs or {}):
            said += f", validation {(logs or {})['validation']:.4f}"
        self._bar.update(self._task, description=said)
