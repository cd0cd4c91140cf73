"""What the service benchmark has measured, as tables and as a plot."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator
from rich.table import Table

from benchmarks.service.catalogue import EXCLUDED, PLAIN
from benchmarks.service.results import (
    BATCH,
    H2LOAD,
    OURS,
    PREDICT,
    Results,
    Turn,
    p99_of,
    rate_of,
    spread,
    summary,
)

_middle = statistics.median
#: Cores of others, above which a turn is not to be trusted.
_DISTURBED = 0.2
_PACKAGES = ("grpcio", "protobuf", "tensorflow", "scann", "fastapi", "uvicorn", "chromadb")


def tables(results: Results) -> Iterator[Table]:
    """What every peer does at every load, then the summary."""
    peers = list(dict.fromkeys(one.peer for one in results.turns))
    for question in dict.fromkeys(one.question for one in results.turns):
        made = Table(title=f"{question}: median (min-max)")
        made.add_column("peer")
        for name in (
            "at a time",
            "recall",
            "req/s",
            "p50 ms",
            "p99 ms",
            "CPU s / 1,000",
            "cores",
            "MiB",
        ):
            made.add_column(name, justify="right")
        for peer in peers:
            for turn in results.turns:
                if (turn.peer, turn.question) == (peer, question) and turn.samples:
                    made.add_row(*_cells(results, turn))
            made.add_section()
        yield made
    made = Table(title="summary: median of the rounds (min-max)")
    made.add_column("what")
    made.add_column("figure", justify="right")
    for line in summary(results):
        made.add_row(line.what, f"{line} {line.unit}")
    for name, note in results.notes.items():
        if note:
            made.add_row(name, note)
    yield made


def disturbed(results: Results) -> str:
    """In how many turns somebody else was at work."""
    samples = [one for turn in results.turns for one in turn.samples.values()]
    count = sum(one.other_cores > _DISTURBED for one in samples)
    return f"{count} of {len(samples)} turns: others used more than {_DISTURBED} of a core"


def _cells(results: Results, turn: Turn) -> list[str]:
    samples = list(turn.samples.values())
    asked = f"{turn.load.concurrency}"
    if turn.caller != H2LOAD:
        asked += f", {turn.caller}"
    if turn.load.rate:
        asked = f"{turn.load.rate:,.0f}/s"
    recall = results.recall.get(turn.peer)
    parts = list(samples[0].cpu_ms)
    cpu = [sum(one.cpu_ms.values()) for one in samples]
    apart = [f"{_middle(one.cpu_ms[part] for one in samples):.2f}" for part in parts]
    memory = [f"{_middle(one.memory_mib[part] for one in samples):,.0f}" for part in parts]
    return [
        turn.peer,
        asked,
        f"{recall:.3f}" if recall else "-",
        spread([one.rate for one in samples], 0),
        spread([one.p50_ms for one in samples], 2),
        spread([one.p99_ms for one in samples], 2),
        f"{_middle(cpu):.2f}" + (f" = {' + '.join(apart)}" if len(parts) > 1 else ""),
        f"{_middle(one.cores for one in samples):.1f}",
        " + ".join(memory),
    ]


def plot(results: Results, path: Path) -> None:
    """Throughput above, p99 below, by concurrency; without and with exclusions."""
    mpl.rcParams["svg.fonttype"] = "none"
    figure, panels = plt.subplots(
        2, 2, figsize=(11, 8), sharex=True, sharey="row", layout="constrained"
    )
    figures = ((rate_of, "answers/s"), (p99_of, "p99, ms"))
    for row, (of, name) in zip(panels, figures, strict=True):
        for panel, question in zip(row, (PLAIN, EXCLUDED), strict=True):
            for peer in results.notes:
                loads = [
                    one
                    for one in results.concurrencies(peer, question)
                    if results.turn(peer, question, one)
                ]
                if peer in (PREDICT, BATCH) or not loads:
                    continue
                values = [
                    [of(one) for one in results.turn(peer, question, load).values()]
                    for load in loads
                ]
                middle = [statistics.median(one) for one in values]
                ours = peer == OURS
                (drawn,) = panel.plot(
                    loads,
                    middle,
                    marker="*" if ours else "o",
                    markersize=14 if ours else 4,
                    color="black" if ours else None,
                    zorder=3 if ours else 2,
                    label=peer,
                )
                lowest, highest = map(min, values), map(max, values)
                panel.fill_between(
                    loads, list(lowest), list(highest), color=drawn.get_color(), alpha=0.12
                )
            panel.set(xscale="log", yscale="log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter("{x:,g}")
            panel.yaxis.set_minor_locator(NullLocator())
            panel.grid(axis="y", color="0.92")
        row[0].set_ylabel(name)
    every = sorted({one.load.concurrency for one in results.turns if one.question == EXCLUDED})
    for panel, question in zip(panels[0], ("no exclusions", "100 exclusions"), strict=True):
        panel.set_title(question)
    for panel in panels[1]:
        panel.set_xlabel("requests at a time")
        panel.set_xticks(every, [f"{one}" for one in every])
        panel.minorticks_off()
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def machine() -> dict[str, Any]:
    """Where this was measured, with the versions of what is installed."""
    versions = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    said = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False)
    versions.append(said.stdout.strip())
    cpu = ""
    if (information := Path("/proc/cpuinfo")).exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        cpu = next((one.split(": ")[1] for one in lines if one.startswith("model name")), "")
    return {"cores": os.cpu_count(), "cpu": cpu, "versions": ", ".join(versions)}
