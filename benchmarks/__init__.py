"""Benchmarks that compare Shortlist with alternatives, and chaos tests.

The first five packages run as commands. README.md lists the commands and their results.

index      search speed at equal recall, compared with other nearest neighbour libraries
service    the query service, compared with other servers of candidates
quality    recall of the trained model on MovieLens 100K, compared with baselines
training   training throughput, compared with the TensorFlow Recommenders tutorial
chaos      failures injected under load
reporting  command lines, tables and JSON files, for all benchmarks
serving    starts model servers and query services, and calls them directly
vectors    random clustered vectors with their exact neighbours, for index and service
"""
