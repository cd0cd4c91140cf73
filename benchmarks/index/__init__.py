"""Search speed of the index beside other libraries, at equal recall: `python -m benchmarks.index`.

compare       builds every index, tries its settings, and measures them in rounds
peers         ours, the ScaNN layer of TensorFlow Recommenders, hnswlib, Faiss, the exact product
process       the process of one peer
results       operating points, their table and their plot
first_answer  latency of the first answer of a loaded version, and the memory that it takes
"""
