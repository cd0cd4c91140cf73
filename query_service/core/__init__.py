"""Decides which candidates answer a query. No gRPC, no protobuf, no I/O."""
