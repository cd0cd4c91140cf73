"""The command line: ``python -m query_service COMMAND``."""
