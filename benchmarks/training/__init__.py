"""Compares training throughput with the TensorFlow Recommenders tutorial.

Run it with `python -m benchmarks.training`.
"""
