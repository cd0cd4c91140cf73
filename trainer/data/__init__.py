"""Interactions in: readers, downloads, synthetic data, splits."""
