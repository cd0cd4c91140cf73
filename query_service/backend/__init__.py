"""The way from the core to TensorFlow Serving, as a chain of models.

The core asks for one query at a time. The cache answers repeated queries, batching collects the
others into Predicts, the circuit breaker fails early while the model server does not answer, and
the client sends what is left.

cache.py            remembers rankings
batching.py         collects queries into batches
batch.py            one batch while its Predict is in flight
circuit_breaker.py  stops sending Predicts to a model server that does not answer
fallback.py         keeps the most popular items for when the model server is unavailable
tf_serving.py       the TensorFlow Serving client
channel.py          the gRPC channel: load balancing, retries, keepalive
tensors.py          builds the tensors of requests, reads rankings from responses
tensor_content.py   decodes the packed encoding of tensors
"""
