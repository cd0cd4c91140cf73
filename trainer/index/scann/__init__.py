"""The ScaNN index, which compares hash codes of all vectors, or of those in the nearest partitions.

The tuner builds searchers with several designs, finds the search depth at which each searcher
reaches the recall target, and keeps the fastest searcher. ScaNN calls partitions "leaves". Only
this package uses ScaNN, which is described in:

Guo et al., "Accelerating large-scale inference with anisotropic vector quantization" (ICML 2020).

index.py         the index inside a SavedModel, and its builder
searcher.py      builds a ScaNN searcher and calls it
tuner.py         chooses the design of the searcher
depth_tuning.py  finds the search depths of one searcher, by measuring recall and speed
"""
