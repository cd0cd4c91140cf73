"""A gRPC server for asyncio that needs about a third of grpc.aio's CPU time per call.

It runs the same handlers as grpc.aio: coroutines and asynchronous generators that get a context.
grpc.aio hands each event from its polling thread to the loop and runs three tasks per call; this
server takes all waiting events at once in the loop's own thread and runs one task per call. It uses
grpcio's private module ``cygrpc``, as grpcio's own servers do, so any release of grpcio may break
it: import this package only to use it (see :mod:`query_service.grpc_server`).

server.py  routes calls to handlers, starts and stops
call.py    one call: its messages, status and cancellation
events.py  the completion queue, emptied in the loop's own thread
"""

from query_service.transport.server import Server

__all__ = ["Server"]
