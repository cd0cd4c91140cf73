"""The ScaNN index, which scores the hash codes of all vectors or only of the nearest partitions.

The tuner builds searchers of several designs, finds the search depth at which each reaches the
recall target, and keeps the fastest. Only this package knows ScaNN.

index.py         the index inside a SavedModel, and its builder
searcher.py      builds a ScaNN searcher and calls it
tuner.py         chooses the design of the searcher
depth_tuning.py  search-depth tuning of one searcher, by measuring recall and speed

Guo et al., "Accelerating large-scale inference with anisotropic vector quantization" (ICML 2020).
"""
