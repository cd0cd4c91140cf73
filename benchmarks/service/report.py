"""The results as tables and as a plot."""

import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import reporting
from benchmarks.reporting import median_and_range
from benchmarks.service.catalogue import EXCLUDED, PLAIN
from benchmarks.service.results import (
    BATCH,
    H2LOAD,
    OURS,
    PREDICT,
    Case,
    Figure,
    Results,
    p99_of,
    rate_of,
    summarise,
)

#: Processor use by other programs, in cores, from which on a measurement is not to be trusted.
_DISTURBED_CORES = 0.2
_PACKAGES = ("grpcio", "protobuf", "tensorflow", "scann", "fastapi", "uvicorn", "chromadb")
_COLUMNS = ("in flight", "recall", "req/s", "p50 ms", "p99 ms", "CPU s / 1,000", "cores", "MiB")


def machine() -> dict[str, Any]:
    """Return the machine and the versions of the peers."""
    said = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False)
    return reporting.machine(_PACKAGES, said.stdout.strip())


def tables(results: Results) -> Iterator[Table]:
    """Yield a table per question with all peers and loads, then the summary."""
    peers = list(dict.fromkeys(case.peer for case in results.cases))
    for question in dict.fromkeys(case.question for case in results.cases):
        table = Table(title=f"{question}: median (min-max)")
        table.add_column("peer")
        for name in _COLUMNS:
            table.add_column(name, justify="right")
        for peer in peers:
            for case in results.cases:
                if (case.peer, case.question) == (peer, question) and case.samples:
                    table.add_row(*_cells(results, case))
            table.add_section()
        yield table
    table = Table(title="summary: median of the rounds (min-max)")
    table.add_column("what")
    table.add_column("figure", justify="right")
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
    samples = list(case.samples.values())
    load = f"{case.load.concurrency}"
    if case.caller != H2LOAD:
        load += f", {case.caller}"
    if case.load.rate:
        load = f"{case.load.rate:,.0f}/s"
    recall = results.recall.get(case.peer)
    servers = list(samples[0].cpu_ms)
    median = statistics.median
    cpu = f"{median(sum(one.cpu_ms.values()) for one in samples):.2f}"
    if len(servers) > 1:
        parts = (f"{median(one.cpu_ms[name] for one in samples):.2f}" for name in servers)
        cpu += f" = {' + '.join(parts)}"
    memory = (f"{median(one.memory_mib[name] for one in samples):,.0f}" for name in servers)
    return [
        case.peer,
        load,
        f"{recall:.3f}" if recall else "-",
        median_and_range([one.rate for one in samples], 0),
        median_and_range([one.p50_ms for one in samples], 2),
        median_and_range([one.p99_ms for one in samples], 2),
        cpu,
        f"{median(one.cores for one in samples):.1f}",
        " + ".join(memory),
    ]


def plot(results: Results, path: Path) -> None:
    """Plot throughput above and p99 below by concurrency, without and with exclusions."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    figure, panels = plt.subplots(
        2, 2, figsize=(11, 8), sharex=True, sharey="row", layout="constrained"
    )
    for row, of, name in zip(panels, (rate_of, p99_of), ("answers/s", "p99, ms"), strict=True):
        for panel, question in zip(row, (PLAIN, EXCLUDED), strict=True):
            for peer in results.notes:
                if peer not in (PREDICT, BATCH):
                    _draw(panel, results, peer, question, of)
            panel.set(xscale="log", yscale="log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter("{x:,g}")
            panel.yaxis.set_minor_locator(NullLocator())
            panel.grid(axis="y", color="0.92")
        row[0].set_ylabel(name)
    loads = sorted({case.load.concurrency for case in results.cases if case.question == EXCLUDED})
    for panel, title in zip(panels[0], ("no exclusions", "100 exclusions"), strict=True):
        panel.set_title(title)
    for panel in panels[1]:
        panel.set_xlabel("requests in flight")
        panel.set_xticks(loads, [f"{load}" for load in loads])
        panel.minorticks_off()
    reporting.save_figure(figure, path, 6, panels[0][0])
    plt.close(figure)


def _draw(panel: Any, results: Results, peer: str, question: str, of: Figure) -> None:
    """Draw the medians of a peer, and a band from the lowest to the highest value."""
    values = {
        load: list(map(of, samples.values()))
        for load in results.concurrencies(peer, question)
        if (samples := results.samples(peer, question, load))
    }
    if not values:
        return
    medians = [statistics.median(one) for one in values.values()]
    style = reporting.line_style(ours=peer == OURS)
    (line,) = panel.plot(list(values), medians, label=peer, **style)
    lowest, highest = map(min, values.values()), map(max, values.values())
    panel.fill_between(
        list(values), list(lowest), list(highest), color=line.get_color(), alpha=0.12
    )
