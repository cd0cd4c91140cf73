"""A small servable, and models that are both exact, so that every figure is known beforehand."""

from pathlib import Path

from serving_contract import MODEL_NAMES
from tests.trainer.numpy_oracle import NumpyOracle
from trainer.artifact import saved_model
from trainer.artifact.servable import Servable, VectorServable
from trainer.index.exact import ExactIndex


def small_servable(*, history: bool = True) -> Servable:
    """Return a servable of 4 users and 30 items with integer vectors of 4 dimensions."""
    return NumpyOracle(4, 30, 1, history=history).servable


def save_both(servable: VectorServable, directory: Path, version: str = "") -> None:
    """Save both models of a servable into ``directory/<name>/<version>``."""
    for name in MODEL_NAMES:
        path = directory / name / version
        path.parent.mkdir(parents=True, exist_ok=True)
        saved_model.save(servable, ExactIndex(servable.candidate_vectors), path, name, {})
