"""The search speed of the index beside other libraries at equal recall.

Run it with `python -m benchmarks.index`. Every index is built on the same vectors, its search
settings are tried, and the fastest that reach the target recall are measured in rounds.

compare       builds every index, tries its settings, and measures them in rounds
peers         ours, the ScaNN layer of TensorFlow Recommenders, hnswlib, Faiss, the exact product
process       the code that runs in the process of one peer
results       search settings, their measurements, and the table of all peers
first_answer  the latency of the first answer of a model server, and its memory
"""
