"""Rows in, towers out. Knows nothing of indexes and exports."""

from trainer.model.training.fit import train
from trainer.model.training.trained import LearningCurve, TrainedModel

__all__ = ["LearningCurve", "TrainedModel", "train"]
