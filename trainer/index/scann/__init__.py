"""The ScaNN index, which finds candidates by hash codes, in all vectors or in partitions of them.

The tuner builds searchers of several designs, finds the search depth at which each reaches the
recall target, and keeps the fastest one. Only this package uses ScaNN, which is described in:

Guo et al., "Accelerating large-scale inference with anisotropic vector quantization" (ICML 2020).

index.py         the index inside a SavedModel, and its builder
searcher.py      builds a ScaNN searcher and calls it
tuner.py         chooses the design of the searcher
depth_tuning.py  finds the search depths of one searcher, by measuring recall and speed
"""
