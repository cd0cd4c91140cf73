"""The command line, ``python -m query_service COMMAND``, with one module per command.

A command's module has ``add_arguments(parser)`` and ``run(parsed, parser)``, which returns the exit
status. Nothing here imports gRPC at import time, because ``serve`` forks its workers before they
load it.

main.py        the table of commands, and the dispatch
options.py     the options shared by commands that call a running service
serve.py       serve
ask.py         ask
health.py      health
bench.py       bench
seen.py        seen
seen_files.py  reads the files that ``seen import`` accepts
token.py       token
"""
