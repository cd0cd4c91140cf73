"""Trains with one configuration and evaluates the model on validation rows."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf
from rich.console import Console

from trainer.config import Config
from trainer.data.types import Dataset, Split
from trainer.errors import ConfigError
from trainer.evaluation import Quality, baselines, evaluate
from trainer.model import training
from trainer.tuning.search import TrialFailed


@dataclass(frozen=True, eq=False)
class Objective:
    """Returns the metric of a configuration; all are evaluated on the same validation rows.

    Attributes:
        dataset: the users, the items and their features.
        parts: the training rows, and the validation rows as ``test``.
        metric: the figure to maximize.
    """

    dataset: Dataset
    parts: Split
    metric: Callable[[Quality], float]

    def __call__(self, settings: Config, time_left: Callable[[], bool]) -> float:
        """Train for all epochs of ``settings`` and return the metric.

        Args:
            settings: the configuration of the trial, with ``training.validation_share`` 0.
            time_left: called after every epoch; training stops when it returns False.

        Raises:
            TrialFailed: the time is over before the last epoch, memory runs out, or training
                diverges.
            DataError: the configuration names columns that do not exist.
        """
        try:
            return self._train_and_evaluate(settings, time_left)
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            raise TrialFailed("out of memory") from error
        except ConfigError as error:
            raise TrialFailed(str(error)) from error
        finally:
            # Keras keeps the graphs of all models until its session is cleared.
            tf.keras.backend.clear_session()

    def _train_and_evaluate(self, settings: Config, time_left: Callable[[], bool]) -> float:
        model = training.train(
            self.dataset,
            self.parts.train,
            settings,
            Console(quiet=True),
            # A loss that is not finite stays so: end the trial early.
            go_on=lambda loss: math.isfinite(loss) and time_left(),
        )
        done, epochs = len(model.curve.loss), settings.training.epochs
        if done < epochs:
            raise TrialFailed(f"the time budget ended after {done} of {epochs} epochs")
        popularity = baselines.popularity(self.parts.train, len(self.dataset.item_ids))
        quality = evaluate(model.scorer(popularity), self.parts.train, self.parts.test)
        return self.metric(quality)
