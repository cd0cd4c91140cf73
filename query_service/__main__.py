"""Runs the command line: ``python -m query_service``."""

import sys

from query_service.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
