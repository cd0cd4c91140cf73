"""One trial: train as configured, and see how good it is on rows that the training never had."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf
from rich.console import Console

from trainer.config import Config, ConfigError
from trainer.data.types import Dataset, Split
from trainer.evaluation import Quality, baselines, evaluate
from trainer.model import training
from trainer.tuning.search import TrialFailed


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges configurations on the same rows.

    Attributes:
        dataset: gives users, items and their features.
        parts: what is trained on, and as its test rows what judges.
        metric: of the quality on these; higher is better.
    """

    dataset: Dataset
    parts: Split
    metric: Callable[[Quality], float]

    def __call__(self, settings: Config, time_left: Callable[[], bool]) -> float:
        """Train for all of the epochs of ``settings``; the metric.

        Args:
            settings: of the trial, without validation rows of its own.
            time_left: asked after every epoch.

        Raises:
            TrialFailed: no time left before the last epoch, no memory, or training diverges.
            DataError: the configuration names columns that are not there.
        """
        try:
            return self._judged(settings, time_left)
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            raise TrialFailed("out of memory") from error
        except ConfigError as error:
            raise TrialFailed(str(error)) from error
        finally:
            # Keras keeps what a model has built until it is told that it is over.
            tf.keras.backend.clear_session()

    def _judged(self, settings: Config, time_left: Callable[[], bool]) -> float:
        model = training.train(
            self.dataset,
            self.parts.train,
            settings,
            Console(quiet=True),
            # What has diverged stays so: no need to wait for the last epoch to be told.
            go_on=lambda loss: math.isfinite(loss) and time_left(),
        )
        done, epochs = len(model.curve.loss), settings.training.epochs
        if done < epochs:
            raise TrialFailed(f"the time was over after {done} of {epochs} epochs")
        popularity = baselines.popularity(self.parts.train, len(self.dataset.item_ids))
        quality = evaluate(model.scorer(popularity), self.parts.train, self.parts.test)
        return self.metric(quality)
