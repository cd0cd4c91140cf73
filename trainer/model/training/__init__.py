"""Trains the two towers on the training rows of a data set.

Rows become training steps in NumPy, which a Keras model is fitted to. Training stops early if
validation rows are held out, and is then repeated on all rows.

fit         the training itself
defaults    chooses the settings that a configuration leaves to ``auto``
batches     cuts histories into training steps
validation  holds validation rows out
stopping    callbacks that end training early
progress    the progress bar
trained     the result
"""

from trainer.model.training.fit import train
from trainer.model.training.trained import LearningCurve, TrainedModel

__all__ = ["LearningCurve", "TrainedModel", "train"]
