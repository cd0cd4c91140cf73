"""The results as a table and as a plot."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from rich.table import Table

from benchmarks import reporting
from benchmarks.index.results import LOADS, Measured, Point

_LABELS = {
    "tfrs": "TFRS ScaNN, defaults",
    "tfrs-sqrt": "TFRS ScaNN, √N leaves, a tenth searched, 500 reordered",
    "hnswlib-16": "hnswlib, M=16",
    "hnswlib-32": "hnswlib, M=32",
    "faiss": "Faiss IVF-PQ fast scan, refined",
    "faiss-residual": "Faiss IVF-PQ fast scan of residuals, refined",
    "exact": "exact product",
}
_LOADS = [str(load) for load in LOADS]
_TICKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
_END = 1.0005
_PACKAGES = (*("tensorflow", "scann", "tensorflow-recommenders", "hnswlib", "faiss-cpu", "numpy"),)


def label(name: str) -> str:
    """Return a peer's name for people."""
    return _LABELS.get(name, name.replace("ours-", "ours, tuned for "))


def machine() -> dict[str, Any]:
    """Return the machine and the versions of the peers."""
    return reporting.machine(_PACKAGES)


def table(results: list[Measured], targets: list[float]) -> Table:
    """Return the table of all peers at every target; those with one setting come first."""
    rows = Table(title="queries/s: median (min-max)")
    rows.add_column("recall@100")
    rows.add_column("index")
    for name in ("setting", "recall", *_LOADS, "build s", "build MiB", "serve MiB", "disk MiB"):
        rows.add_column(name, justify="right")
    for measured in results:
        if measured.fixed:
            rows.add_row("as it is", *_cells(measured, measured.points[0]))
    for target in targets:
        rows.add_section()
        for measured in results:
            if measured.fixed or measured.target not in (None, target):
                continue
            if point := measured.at(target):
                rows.add_row(f"{target}", *_cells(measured, point))
            else:
                best = max(point.recall for point in measured.points)
                rows.add_row(f"{target}", label(measured.name), "not reached", f"{best:.4f}")
    return rows


def _cells(measured: Measured, point: Point) -> list[str]:
    sizes = (
        *(measured.build_seconds, measured.build_peak_mib),
        *(measured.serve_peak_mib, measured.size_mib),
    )
    return [
        label(measured.name),
        ", ".join(f"{name} {value:g}" for name, value in point.setting.items()),
        f"{point.recall:.4f}",
        *(reporting.median_and_range(point.rates[load], 0) for load in _LOADS),
        *(f"{size:,.0f}" if size else "-" for size in sizes),
    ]


def plot(results: list[Measured], targets: list[float], path: Path) -> None:
    """Plot recall against queries/s, with a panel per load."""
    figure, panels = plt.subplots(
        1, len(_LOADS), figsize=(5 * len(_LOADS), 5), sharey=True, layout="constrained"
    )
    for panel, load in zip(panels, _LOADS, strict=True):
        for measured in results:
            front = measured.front()
            panel.plot(
                [point.recall for point in front],
                [statistics.median(point.rates[load]) for point in front],
                label=label(measured.name),
                **reporting.line_style(ours=measured.target is not None),
            )
        for target in targets:
            panel.axvline(target, color="0.8", linewidth=1, zorder=1)
        panel.set(title=load, xlabel="recall@100", yscale="log")
        # The axis has as much room from .9 to .99 as from .99 to .999.
        panel.set_xscale(
            "function",
            functions=(lambda recall: -np.log10(_END - recall), lambda place: _END - 10**-place),
        )
        panel.set_xlim(0.5, 1.0002)
        panel.set_xticks(_TICKS, [f"{tick:g}".lstrip("0") for tick in _TICKS])
        panel.grid(which="both", axis="y", color="0.92")
    panels[0].set_ylabel("queries/s")
    reporting.save_figure(figure, path, 3, panels[0])
    plt.close(figure)
