"""The chain of models between the core and TensorFlow Serving.

The core fetches the ranking of one query at a time. The cache answers repeated queries, batching
combines the others into Predict calls, the circuit breaker fails early while the model server does
not answer, and the client sends the calls.

cache.py            keeps rankings for repeated queries
batching.py         combines queries into batches, and refuses those that would wait too long
batch.py            one batch while its Predict is in flight
circuit_breaker.py  CircuitBreaker: opens the circuit to a model server that does not answer
fallback.py         keeps the most popular items, for use while the model server is unavailable
tf_serving.py       the TensorFlow Serving client
channel.py          the gRPC channel: load balancing, retries, keepalive
tensors.py          builds the tensors of requests, reads rankings from responses
"""
