"""The results as tables and as a plot."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich.table import Table

from benchmarks import reporting
from benchmarks.reporting import median_and_range
from benchmarks.service.catalogue import EXCLUDED, PLAIN
from benchmarks.service.results import BATCH, H2LOAD, OURS, PREDICT, Case, Results, summarise

#: Processor use by other programs, in cores, from which on a measurement is not to be trusted.
_DISTURBED_CORES = 0.2
_COLUMNS = ("in flight", "recall", "req/s", "p50 ms", "p99 ms", "CPU s / 1,000", "cores", "MiB")


def tables(results: Results) -> Iterator[Table]:
    """Yield a table per question with all peers and loads, then the summary."""
    peers = list(dict.fromkeys(case.peer for case in results.cases))
    for question in dict.fromkeys(case.question for case in results.cases):
        table = reporting.table(f"{question}: median (min-max)", "peer", *_COLUMNS)
        for peer in peers:
            for case in results.cases:
                if (case.peer, case.question) == (peer, question) and case.samples:
                    table.add_row(*_cells(results, case))
            table.add_section()
        yield table
    table = reporting.table("summary: median of the rounds (min-max)", "what", "figure")
    for line in summarise(results):
        table.add_row(line.what, f"{line} {line.unit}")
    for name, note in results.notes.items():
        if note:
            table.add_row(name, note)
    yield table


def disturbances(results: Results) -> str:
    """Return the number of measurements during which other programs were busy."""
    samples = [sample for case in results.cases for sample in case.samples.values()]
    count = sum(sample.other_cores > _DISTURBED_CORES for sample in samples)
    return (
        f"{count} of {len(samples)} measurements: other programs used more than "
        f"{_DISTURBED_CORES} of a core"
    )


def _cells(results: Results, case: Case) -> list[str]:
    samples = case.table()
    load = f"{case.load.concurrency}"
    if case.caller != H2LOAD:
        load += f", {case.caller}"
    if case.load.rate:
        load = f"{case.load.rate:,.0f}/s"
    recall = results.recall.get(case.peer)
    # One column for each server.
    cpu, memory = (pd.DataFrame(samples[one].tolist()) for one in ("cpu_ms", "memory_mib"))
    parts = " + ".join(f"{one:.2f}" for one in cpu.median())
    return [
        case.peer,
        load,
        f"{recall:.3f}" if recall else "-",
        median_and_range(samples.rate.tolist(), 0),
        median_and_range(samples.p50_ms.tolist(), 2),
        median_and_range(samples.p99_ms.tolist(), 2),
        parts if len(cpu.columns) == 1 else f"{cpu.sum(axis=1).median():.2f} = {parts}",
        f"{samples.cores.median():.1f}",
        " + ".join(f"{one:,.0f}" for one in memory.median()),
    ]


def plot(results: Results, path: Path) -> None:
    """Plot median throughput and p99 by concurrency, without and with exclusions."""
    peers = [name for name in results.notes if name not in (PREDICT, BATCH)]
    panels = {
        f"{name}, {question}": {
            peer: list(results.medians(peer, question, figure).items()) for peer in peers
        }
        for figure, name in (("rate", "answers/s"), ("p99_ms", "p99, ms"))
        for question in (PLAIN, EXCLUDED)
    }
    reporting.plot(path, panels, OURS, xlabel="requests in flight")
