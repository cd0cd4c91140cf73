"""What callers see: messages in, messages or statuses out. The only room of gRPC status codes.

methods.py              what all methods share: parsing, deadline, limit, statuses
retrieval_servicer.py   retrieval.v1.RetrievalService
interaction_servicer.py retrieval.v1.InteractionService
wire.py                 large messages are looked at before they are parsed
validation.py           a request becomes a query, or breaks a rule of the API
encoding.py             candidates become a response's bytes
health.py               grpc.health.v1, open to all
reflection.py           grpc.reflection.v1alpha
"""
