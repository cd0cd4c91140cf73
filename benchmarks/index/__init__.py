"""Search speed of the index beside other libraries, at equal recall: `python -m benchmarks.index`.

compare       builds every index, tries its settings, and measures them in rounds
peer          the interface of an index
libraries     hnswlib and Faiss
saved_models  ours, the ScaNN layer of TensorFlow Recommenders, and the exact product
peers         all of them by name
process       the process of one peer
results       operating points
report        the table and the plot
first_answer  latency of the first answer of a loaded version, and the memory that it takes
"""
