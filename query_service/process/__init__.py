"""Processes: one port for several of them, and what each does besides answering.

listening.py    holds the port
supervisor.py   starts, watches and drains the workers
process.py      a worker, from the fork to its end
memory.py       when Python's collector runs, and how many heaps there are
"""
