"""Rows in, towers out. Knows nothing of indexes and exports."""

from trainer.training.fit import train
from trainer.training.trained import LearningCurve, TrainedModel

__all__ = ["LearningCurve", "TrainedModel", "train"]
