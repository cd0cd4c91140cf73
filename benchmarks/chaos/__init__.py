"""Real harm to real processes under a steady load, and what the callers see of it.

    python -m benchmarks.chaos [SCENARIO ...]

lab.py            starts what a scenario needs, with the same load for all
processes.py      a server process: killed, paused, started again, terminated
catalogue.py      the model: made where there is none, and what is in it
asking.py         requests, and what is wrong with their answers
load.py           sends them at fixed times; keeps when each was sent and how it ended
outcomes.py       counts and quantiles of what was kept
checks.py         what is held against what bound

model_servers.py  scenarios: the model server dies, stands still, is one of two
services.py       a worker dies; an instance is told to end
overload.py       twice the load that can be answered
versions.py       versions are published, broken, rolled back
seen_items.py     Redis dies and stands still
hostile.py        a hundred thousand fuzzed requests
access.py         wrong certificates, wrong tokens
soak.py           minutes of mixed load: memory

scenarios.py      all of them by name
report.py         the table for people, docs/reliability.md and JSON
"""
