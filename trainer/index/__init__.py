"""Maximum inner product search, which finds the k candidate vectors with the highest dot products.

Every index kind implements the interface in base.py, and kinds.py is the only module that lists the
kinds. The exact index is the reference that the recall of the other kinds is measured against.

base.py      Index and IndexBuilder, the interface
kinds.py     the builder of each value of ``index.kind``
exact.py     the exact index, exact scores as ground truth, and recall@k
scann/       the ScaNN index and its tuner
workload.py  recall and latency of a search on a set of queries
memory.py    estimates of the memory that an index needs

Importing this package does not import TensorFlow. Importing any module outside scann/ does not
import ScaNN, which has no wheels for some systems.
"""
