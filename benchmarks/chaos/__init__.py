"""Failures injected into real processes under a steady load, and what callers see of them.

Every scenario starts its own servers, sends requests, injects a failure, and compares figures with
bounds. `make chaos` runs all scenarios, `python -m benchmarks.chaos SCENARIO ...` some of them.

scenarios    all scenarios by name
environment  starts the servers and the load that a scenario needs
requests     users and items, requests of every kind, and the check of their answers
load         sends requests at fixed times and keeps the outcome of each
outcomes     the outcomes of requests as a table
checks       figures and the bounds that they have to keep
report       the table on the terminal, in docs/reliability.md, and JSON

outages      the model server or Redis is killed or paused
services     a worker is killed; an instance is shut down
overload     twice the load that can be answered
versions     versions are published, damaged, and rolled back
fuzzing      a hundred thousand fuzzed requests
access       invalid certificates and tokens
soak         minutes of mixed load
"""
