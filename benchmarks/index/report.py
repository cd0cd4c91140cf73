"""What the index benchmark has measured, as a table and as a plot."""

import importlib.metadata
import platform
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from rich.table import Table

from benchmarks.index.peers import CORES

if TYPE_CHECKING:
    from benchmarks.index.compare import Measured, Point

LABELS = {
    "tfrs": "TFRS ScaNN, defaults",
    "tfrs-sqrt": "TFRS ScaNN, √N leaves, a tenth searched, 500 reordered",
    "hnswlib-16": "hnswlib, M=16",
    "hnswlib-32": "hnswlib, M=32",
    "faiss": "Faiss IVF-PQ fast scan, refined",
    "faiss-residual": "Faiss IVF-PQ fast scan of residuals, refined",
    "exact": "exact product",
}
_TICKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
_END = 1.0005
_PACKAGES = (
    "tensorflow",
    "scann",
    "tensorflow-recommenders",
    "hnswlib",
    "faiss-cpu",
    "numpy",
)


def label(name: str) -> str:
    """A peer's name for people."""
    return LABELS.get(name, name.replace("ours-", "ours, tuned for "))


def machine() -> dict[str, Any]:
    """Where this was measured, with the versions of what is installed."""
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    cpu = ""
    if (information := Path("/proc/cpuinfo")).exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        cpu = next((one.split(": ")[1] for one in lines if one.startswith("model name")), "")
    python = f"Python {platform.python_version()}"
    return {"cores": CORES, "cpu": cpu, "versions": ", ".join([python, *versions])}


def table(results: "list[Measured]", targets: list[float], loads: list[str]) -> Table:
    """Every peer at every target, and those of one setting as they are."""
    made = Table(title="queries/s: median (min-max)")
    made.add_column("recall@100")
    made.add_column("index")
    for name in ("setting", "recall", *loads, "build s", "build MiB", "serve MiB", "disk MiB"):
        made.add_column(name, justify="right")
    for one in results:
        if one.fixed:
            made.add_row("as it is", *_cells(one, one.points[0], loads))
    for target in targets:
        made.add_section()
        for one in results:
            if one.fixed or one.target not in (None, target):
                continue
            if point := one.at(target):
                made.add_row(f"{target}", *_cells(one, point, loads))
            else:
                best = max(point.recall for point in one.points)
                made.add_row(f"{target}", label(one.name), "not reached", f"{best:.4f}")
    return made


def _cells(one: "Measured", point: "Point", loads: list[str]) -> list[str]:
    rates = [
        f"{statistics.median(point.rates[load]):,.0f} "
        f"({min(point.rates[load]):,.0f}-{max(point.rates[load]):,.0f})"
        for load in loads
    ]
    setting = ", ".join(f"{name} {value:g}" for name, value in point.setting.items())
    sizes = (one.build_seconds, one.build_peak_mib, one.serve_peak_mib, one.size_mib)
    return [
        label(one.name),
        setting,
        f"{point.recall:.4f}",
        *rates,
        *(f"{size:,.0f}" if size else "-" for size in sizes),
    ]


def plot(results: "list[Measured]", targets: list[float], loads: list[str], path: Path) -> None:
    """Recall against queries/s, a panel per load; ours are stars."""
    mpl.rcParams["svg.fonttype"] = "none"
    figure, panels = plt.subplots(
        1, len(loads), figsize=(5 * len(loads), 5), sharey=True, layout="constrained"
    )
    for panel, load in zip(panels, loads, strict=True):
        for one in results:
            front = one.front()
            rates = [statistics.median(point.rates[load]) for point in front]
            ours = one.target is not None
            panel.plot(
                [point.recall for point in front],
                rates,
                marker="*" if ours else "o",
                markersize=14 if ours else 4,
                color="black" if ours else None,
                zorder=3 if ours else 2,
                label=label(one.name),
            )
        for target in targets:
            panel.axvline(target, color="0.8", linewidth=1, zorder=1)
        panel.set(title=load, xlabel="recall@100", yscale="log")
        # As much room from .9 to .99 as from .99 to .999.
        panel.set_xscale(
            "function",
            functions=(lambda recall: -np.log10(_END - recall), lambda place: _END - 10**-place),
        )
        panel.set_xlim(0.5, 1.0002)
        panel.set_xticks(_TICKS, [f"{tick:g}".lstrip("0") for tick in _TICKS])
        panel.grid(which="both", axis="y", color="0.92")
    panels[0].set_ylabel("queries/s")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
