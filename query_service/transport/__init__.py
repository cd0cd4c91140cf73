"""A gRPC server for asyncio that needs about a third of grpc.aio's CPU time per call.

It runs the same handlers as grpc.aio, which are coroutines and asynchronous generators that take a
context. grpc.aio passes each event from its polling thread to the loop and runs three tasks per
call. This server handles all waiting events at once in the loop's own thread, and runs one task per
call. It uses grpcio's private module ``cygrpc``, as grpcio's own servers do, so any release of
grpcio may break it. Therefore import this package only when it is used, as
:mod:`query_service.grpc_server` does.

server.py  routes calls to handlers, starts and stops
call.py    one call: its messages, status and cancellation
events.py  the completion queue, whose events are handled in the loop's own thread
"""

from query_service.transport.server import Server

__all__ = ["Server"]
