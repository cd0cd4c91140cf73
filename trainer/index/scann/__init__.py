"""The ScaNN index: scores hash codes of vectors, of all or only of the nearest partitions.

The tuner builds searchers of several designs, measures how much of each has to be searched to reach
the recall target, and keeps the fastest. Only this package knows ScaNN.

index.py         the index inside a SavedModel, and its builder
searcher.py      builds a ScaNN searcher and calls it
tuner.py         chooses the design of the searcher
depth_tuning.py  chooses how deep a searcher searches, by measuring recall and speed

Guo et al., "Accelerating large-scale inference with anisotropic vector quantization" (ICML 2020).
"""
