"""Run `benchmarks.service.compare`."""

from benchmarks.service.compare import main

main()
