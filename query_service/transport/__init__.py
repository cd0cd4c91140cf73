"""A gRPC server for asyncio that costs a third of grpc.aio's: see benchmarks/README.md.

Its handlers are grpc.aio's: coroutines and asynchronous generators that get a context. What is
other is how events come to them. grpc.aio moves each event from its poller's thread to the loop by
itself and runs three tasks a call; here the loop takes all the events that are there at once, and
runs one task a call. It stands on grpcio's ``cygrpc``, as grpcio's own servers do: its classes have
been the same for years but are no public API, so the lock file's version is the one that is tested,
and ``serve --runtime aio`` runs the same handlers on grpc.aio.

server.py   routes calls to handlers, starts and stops
call.py     one call: its messages, status and cancellation
events.py   the completion queue, emptied in the loop's own thread
failures.py what is logged of handlers that fail
"""

from query_service.transport.call import UnaryHandler
from query_service.transport.server import Server

__all__ = ["Server", "UnaryHandler"]
