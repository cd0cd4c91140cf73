"""Recall of the trained model on MovieLens 100K: `python -m benchmarks.quality`.

ablation  compares the preset with variants of it, on validation rows
"""
