"""Recall of the trained model on MovieLens 100K: `python -m benchmarks.quality`.

ablation  the preset beside variants of it, on validation rows
"""
