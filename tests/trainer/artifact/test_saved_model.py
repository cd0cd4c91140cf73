"""A saved model can be loaded by TensorFlow 2.11, and has warm-up requests."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import scann  # noqa: F401  (registers the ops)
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving_contract import MODEL_NAMES
from tests.trainer.artifact.ops import OPS_OF_TENSORFLOW_2_11, ops_of
from tests.trainer.numpy_oracle import NumpyOracle
from trainer.artifact import saved_model, warmup
from trainer.index.exact import ExactIndex


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_signature_has_warmup_requests_of_known_ids(name: str, models_dir: Path) -> None:
    directory = models_dir / name / "1"
    model = tf.saved_model.load(str(directory))
    shapes = []
    for signature, inputs in warmup.read(directory):
        tensors = {name: tf.constant(values) for name, values in inputs.items()}
        answer = model.signatures[signature](**tensors)
        assert answer["known"].numpy().all()
        shapes.append((signature, len(inputs["k"]), int(inputs["k"][0])))
    expected = [(signature, *shape) for signature in model.signatures for shape in warmup.SHAPES]
    assert Counter(shapes) == Counter(expected)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_warmup_requests_name_their_model(name: str, models_dir: Path) -> None:
    path = models_dir / name / "1" / "assets.extra" / "tf_serving_warmup_requests"
    names = {
        prediction_log_pb2.PredictionLog.FromString(
            record.numpy()
        ).predict_log.request.model_spec.name
        for record in tf.data.TFRecordDataset(str(path))
    }
    assert names == {name}


@pytest.fixture(scope="module", params=["all parts", "no optional parts"])
def exact_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved exact model with all optional parts of a servable, and one without."""
    parts = request.param == "all parts"
    servable = NumpyOracle(3, 5, 0, history=parts, user_vectors=True, item_queries=parts).servable
    servable = replace(servable, query=replace(servable.query, normalize=parts, exponent=0.5))
    directory = tmp_path_factory.mktemp("exported") / "m"
    saved_model.save(servable, ExactIndex(servable.candidate_vectors), directory, "m", {})
    return directory


def test_exact_models_use_only_ops_of_tensorflow_2_11(exact_model: Path, models_dir: Path) -> None:
    for directory in (exact_model, models_dir / "retrieval_exact" / "1"):
        assert ops_of(directory) <= OPS_OF_TENSORFLOW_2_11


def test_retrieval_uses_only_ops_of_tensorflow_2_11_and_scann(models_dir: Path) -> None:
    ops = ops_of(models_dir / "retrieval" / "1")
    of_scann = {op for op in ops if op.startswith("Scann>")}
    assert of_scann
    assert ops - of_scann <= OPS_OF_TENSORFLOW_2_11
