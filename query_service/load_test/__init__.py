"""The load generator of ``python -m query_service bench``.

It sends requests from one or more processes, in a closed loop with a fixed number of requests in
flight or in an open loop with a fixed rate. It counts answers and errors, and measures latencies.

plan.py        reads the ids to ask for, and divides the load among the processes
processes.py   runs the load in several processes, and adds up their results
load.py        the closed-loop or open-loop load of one process
connection.py  one TCP connection to the service
requests.py    the serialized requests
tally.py       counts and latencies
report.py      the results as text and as JSON
"""
