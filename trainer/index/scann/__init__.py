"""The ScaNN index: scores hash codes of vectors, of all or only of the nearest partitions.

The tuner builds searchers of several designs, measures how much of each has to be searched to reach
the recall target, and keeps the fastest. Only this package knows ScaNN.

builder.py           implements the interface of :mod:`trainer.index.base`
index.py             the index inside a SavedModel
searcher.py          builds a ScaNN searcher and calls it
tuner.py             chooses the design of the searcher
depth_tuning.py      chooses how deep a searcher searches
depth.py             search depth by k, in NumPy and in a graph
operating_points.py  what was measured

Guo et al., "Accelerating large-scale inference with anisotropic vector quantization" (ICML 2020).
"""
