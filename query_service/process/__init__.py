"""Worker processes that share one port.

One process uses one CPU, so the service scales with the number of processes. This package does not
know what a worker does, and it does not import gRPC, which would not survive a fork.

cpus.py        counts the usable CPUs, for ``--workers auto``
sockets.py     reserves a port for several processes
supervisor.py  starts, watches, restarts and drains the workers
worker.py      one worker process, from the fork to its end
"""
