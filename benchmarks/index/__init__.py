"""Compares the search speed of Shortlist's index with that of other libraries at equal recall.

`python -m benchmarks.index` builds all indexes, called peers, on the same vectors, tries many
search settings of each peer, and measures the fastest that reach the target recall in rounds.

compare             builds every index, tries its settings, and measures in rounds
peers               Shortlist's index, TensorFlow Recommenders' ScaNN layer, hnswlib, Faiss, exact
process             the functions that run in a peer's process
results             search settings with their measurements, and the table of all peers
cold_start_latency  first-request latency of a freshly started model server, and its memory
"""
