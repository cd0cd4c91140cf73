"""Measurements of Shortlist beside its peers, and of what it survives.

Each subject has a package, which runs as a command. README.md has the results and the commands
that make them.

index      search speed at equal recall, beside other approximate nearest neighbor libraries
service    the query service beside other ways to serve candidates
quality    recall of the trained model on MovieLens 100K, beside baselines
training   training throughput, beside the TensorFlow Recommenders tutorial
chaos      failures injected under load
reporting  command lines, tables and JSON files of all benchmarks
serving    model servers and query services that benchmarks start, and bare calls to them
vectors    clustered vectors with their exact neighbours, which index and service share
"""
