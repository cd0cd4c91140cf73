"""The ops in the graph of a SavedModel."""

from pathlib import Path

from tensorflow.core.protobuf import saved_model_pb2


def ops_of(directory: Path) -> set[str]:
    graph = saved_model_pb2.SavedModel.FromString(
        (directory / "saved_model.pb").read_bytes()
    ).meta_graphs[0]
    nodes = list(graph.graph_def.node)
    for function in graph.graph_def.library.function:
        nodes.extend(function.node_def)
    functions = {function.signature.name for function in graph.graph_def.library.function}
    return {node.op for node in nodes} - functions


# All of these are in the op registry of TensorFlow 2.11.1.
OPS_OF_TENSORFLOW_2_11 = set(
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
    UnsortedSegmentSum Where BatchMatMulV2 FloorDiv Rank
    """.split()  # noqa: SIM905
)
