"""Hostile input, made by machine: ``python -m tests.fuzz --help``.

contract.py       what every answer of the service must keep to
requests.py       requests, from good ones to garbage
request_path.py   target: bytes -> request -> core, with a model in memory
predict.py        target: bytes as the model server's answer
csv_reader.py     target: bytes as a CSV file of interactions
guided.py         runs a target under libFuzzer, guided by the coverage of our code
service.py        sends requests to a running service and judges its answers
"""
