"""Run `benchmarks.index.compare`."""

from benchmarks.index.compare import main

main()
