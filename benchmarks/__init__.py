"""Measurements of Shortlist beside its peers, and of what it survives; see README.md here.

index     search speed at equal recall, beside other approximate nearest neighbor libraries
service   the query service beside other ways to serve candidates
quality   recall of the trained model on MovieLens 100K, beside baselines
training  training throughput, beside the TensorFlow Recommenders tutorial
chaos     failures injected under load
vectors   clustered vectors with their exact neighbours, which index and service share
"""
