"""Training throughput beside the TensorFlow Recommenders tutorial.

Run it with `python -m benchmarks.training`.
"""
