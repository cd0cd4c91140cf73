"""Search speed of the index beside other libraries, at equal recall: `python -m benchmarks.index`.

compare       builds every index, tries its settings, and measures them in turns
peers         the indexes, and the process that each of them runs in
report        tables and the plot
first_answer  latency of the first answer after a version is loaded, and the memory it takes
"""
