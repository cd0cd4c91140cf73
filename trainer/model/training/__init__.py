"""Trains the two towers on the training rows of a data set.

Rows become training steps in NumPy, which a Keras model is fitted to. Training stops early if
validation rows are held out, and is then repeated on all rows.

fit         the training itself, and its validation rows
defaults    chooses the settings that a configuration leaves to ``auto``
batches     cuts histories into training steps
callbacks   the progress bar, and early stopping
trained     the result
"""

from trainer.model.training.fit import train
from trainer.model.training.trained import LearningCurve, TrainedModel

__all__ = ["LearningCurve", "TrainedModel", "train"]
