"""Fuzzing with generated hostile input. See ``python -m tests.fuzz --help``.

contract.py       the rules that every response of the service has to keep
requests.py       generates requests, from valid ones to random bytes
request_path.py   target: bytes as a request, answered from a model in memory
predict.py        target: bytes as the response of the model server
csv_reader.py     target: bytes as a CSV file of interactions
guided.py         runs a target under libFuzzer, guided by code coverage
service.py        sends requests to a running service and checks its responses
"""
