"""The gRPC API: request messages in, response messages or statuses out.

This package validates requests, turns them into queries of ``query_service.core``, and encodes the
answers. Only it knows the gRPC status codes of our errors.

methods.py               runs every method: checks the token and the rate limit, refuses
                         calls while too many requests are in flight, parses, maps errors
statuses.py              the status code and the details of each error
retrieval_servicer.py    retrieval.v1.RetrievalService
interaction_servicer.py  retrieval.v1.InteractionService
wire.py                  limits on large messages, checked before they are parsed
validation.py            turns a request into a query, or names the field that breaks a rule
encoding.py              encodes candidates as the bytes of a response
health.py                reports SERVING while the model server has the model
"""
