"""Trains the two towers on the training rows of a data set.

NumPy turns the rows into training steps, and Keras fits the model. If validation rows are
held out, training stops early and is then repeated on all rows.

fit         the training loop, and its validation rows
defaults    chooses the settings that a configuration leaves open
batches     turns histories into training steps
callbacks   the progress bar, and early stopping
trained     the result of training: the towers as arrays
"""

from trainer.model.training.fit import train
from trainer.model.training.trained import LearningCurve, TrainedModel

__all__ = ["LearningCurve", "TrainedModel", "train"]
