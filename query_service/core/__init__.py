"""Decide which candidates answer a query.

This package is pure logic: it imports neither gRPC nor protobuf and does no I/O of its own. The
model and the seen store are reached through protocols, so that tests can pass in fakes.

query.py        the value objects: queries, rankings from the model, and answers
filters.py      the items that a query must not return, one filter for each reason
retriever.py    fetches candidates from the model until enough of them pass all filters
"""
