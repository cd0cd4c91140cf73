"""Injects failures into real processes under a steady load, and checks their effects on callers.

Every scenario starts its own servers, sends requests, injects a failure, and compares measurements
with bounds. `make chaos` runs all scenarios, `python -m benchmarks.chaos SCENARIO ...` runs some.

scenarios    all scenarios by name
environment  starts the servers and the load that a scenario needs
requests     ids of users and items, requests of all kinds, and a check of the answers
load         sends requests at fixed times and records the outcome of each request
outcomes     the table of the outcomes of requests
checks       compares measurements with bounds
report       writes results to the terminal, to docs/reliability.md, and to a JSON file

outages      the model server or Redis is killed or paused
services     a worker is killed; an instance is shut down
overload     twice as many requests are sent as can be answered
versions     versions are published, damaged, and rolled back
fuzzing      a hundred thousand fuzzed requests are sent
access       callers have invalid certificates and tokens
soak         mixed load for minutes must not make memory grow
"""
