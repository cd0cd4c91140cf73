"""Maximum inner product search, which finds the k candidate vectors with the highest dot products.

Every index kind implements the interface in base.py; only kinds.py lists the kinds. The exact index
provides the reference results against which the recall of all other kinds is measured.

base.py      Index and IndexBuilder, the interface
kinds.py     the builder of each value of ``index.kind``
exact.py     the exact index, exact scores as ground truth, and recall@k
scann/       the ScaNN index and its tuner
workload.py  measures recall and latency of a search on a set of queries
memory.py    estimates of the memory that an index needs

Importing this package does not import TensorFlow. The modules outside scann/ do not import ScaNN at
the top, because ScaNN has no wheels for some systems.
"""
