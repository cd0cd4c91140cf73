"""A saved model can be loaded by TensorFlow 2.11, and has warm-up requests."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import scann  # noqa: F401  (registers the ops)
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from serving_contract import MODEL_NAMES
from tests.trainer.numpy_oracle import NumpyOracle
from trainer.artifact import saved_model, warmup
from trainer.index.exact import ExactIndex


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_signature_has_warmup_requests_of_known_ids(name: str, models_dir: Path) -> None:
    directory = models_dir / name / "1"
    model = tf.saved_model.load(str(directory))
    shapes = []
    for signature, inputs in warmup.read(directory):
        answer = model.signatures[signature](**inputs)
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


def _ops(directory: Path) -> set[str]:
    graph = saved_model_pb2.SavedModel.FromString(
        (directory / "saved_model.pb").read_bytes()
    ).meta_graphs[0]
    nodes = list(graph.graph_def.node)
    for function in graph.graph_def.library.function:
        nodes.extend(function.node_def)
    functions = {function.signature.name for function in graph.graph_def.library.function}
    return {node.op for node in nodes} - functions


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
        assert _ops(directory) <= _OPS_OF_TENSORFLOW_2_11


def test_retrieval_uses_only_ops_of_tensorflow_2_11_and_scann(models_dir: Path) -> None:
    ops = _ops(models_dir / "retrieval" / "1")
    of_scann = {op for op in ops if op.startswith("Scann>")}
    assert of_scann
    assert ops - of_scann <= _OPS_OF_TENSORFLOW_2_11


# Each of these was looked up in the op registry of TensorFlow 2.11.1.
_OPS_OF_TENSORFLOW_2_11 = set(
    """
    Add AddV2 Assert AssignVariableOp Cast CheckNumerics Const ConcatV2 Cumsum Equal
    ExpandDims Fill Gather GatherNd GatherV2 Greater GreaterEqual HashTableV2 Identity
    IdentityN If IsNan Less LessEqual LogicalAnd LogicalNot LogicalOr LookupTableFindV2
    LookupTableImportV2 MatMul Max Maximum MergeV2Checkpoints Min Minimum Mul Neg NoOp
    NotEqual Pack Pad PadV2 PartitionedCall Placeholder Prod Range ReadVariableOp RealDiv
    Reshape ResourceGather RestoreV2 Rsqrt SaveV2 Select SelectV2 Shape ShardedFilename
    SparseToDense Square StatefulPartitionedCall StatelessIf StaticRegexFullMatch
    StridedSlice StringJoin Sub Sum TopKV2 VarHandleOp VarIsInitializedOp All Size
    BroadcastTo BroadcastArgs DisableCopyOnRead Bitcast Unpack Squeeze Any Split LookupTableSizeV2
    Exp Log Pow RaggedGather RaggedRange Tile Transpose Unique UnsortedSegmentMax
    UnsortedSegmentSum Where
    """.split()  # noqa: SIM905
)
