"""Processes: workers that share one port.

One process uses one CPU, so a service scales with processes. This package knows nothing of what a
worker does and imports no gRPC, which would not survive a fork.

sockets.py     reserves a port for several processes
supervisor.py  starts, watches, restarts and drains the workers
worker.py      one worker process, from the fork to its end
cpus.py        counts the usable CPUs
"""
