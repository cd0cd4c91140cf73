"""Rows in, towers out. Knows nothing of indexes and exports."""

from trainer.training.fit import LearningCurve, TrainedModel, objective, train

__all__ = ["LearningCurve", "TrainedModel", "objective", "train"]
