"""Draws plots as SVG elements whose colours the page defines.

Lines have the colour ``var(--series-N)`` and text has ``currentColor``, so that the page's style
sheet can choose different colours in dark mode. The identifiers in a plot begin with the plot's
``name``, which must be unique on the page. The ``label`` describes the plot to screen readers.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

#: The number of different line styles. The page defines the colours --series-0, --series-1 etc.
SERIES = 7
_MARKERS = "osD^vPX"
# Placeholders for Matplotlib, which ``_svg`` replaces with the page's colours.
_TEXT, _GRID = "#010101", "#020202"
_SERIES = [f"#0300{number:02x}" for number in range(SERIES)]
_PAGE_COLORS = {_TEXT: "currentColor", _GRID: "var(--grid)"} | {
    color: f"var(--series-{number})" for number, color in enumerate(_SERIES)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 10,
    "text.color": _TEXT,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.labelcolor": _TEXT,
}


def slices(rows: Sequence[Mapping[str, Any]], name: str, label: str, x_label: str) -> str:
    """Plot one line per model over the slices of the test rows.

    ``rows`` are the slices, as in metrics.json. ``x_label`` names the quantity that defines them.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.5, 3.8), layout="constrained")
        axes = figure.subplots()
        for series, model in enumerate(rows[0]["top_100"]):
            values = [row["top_100"][model] for row in rows]
            _line(axes, range(len(rows)), values, series, model)
        axes.set_xticks(range(len(rows)), _ticks(rows), fontsize=8)
        axes.set_xlabel(x_label)
        axes.set_ylabel("unseen_items top-100")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.legend(loc="outside upper left", ncols=SERIES)
        return _svg(figure, name, label)


def learning_curve(curve: Mapping[str, Sequence[float]], name: str, label: str) -> str:
    """Plot the training loss by epoch, and beside it the validation metric if it was measured.

    ``curve`` has ``epoch``, ``loss`` and ``validation``; only ``validation`` may be empty.
    """
    panels = {"training loss": curve["loss"]}
    if curve.get("validation"):
        panels["unseen_items top-100, validation rows"] = curve["validation"]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.5, 2.9), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, (title, values) in zip(axes, panels.items(), strict=True):
            _line(panel, curve["epoch"], values, 0, title)
            panel.set_title(title, loc="left", fontsize=10)
            panel.set_xlabel("epoch")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        return _svg(figure, name, label)


def frontier(index: Mapping[str, Any], name: str, label: str) -> str:
    """Plot speed against recall for the built index at several search depths and other indexes.

    ``index`` has ``frontier``, ``tried``, ``by_k`` and ``target_recall``, as in metrics.json.
    """
    k = index["frontier"][0]["k"]
    size = index["frontier"][0]["items"]
    chosen = next(point for point in index["by_k"] if point["k"] == k)
    others = [point for point in index["tried"] if point["items"] == size and point != chosen]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.5, 3.4), layout="constrained")
        axes = figure.subplots()
        x, y = _coordinates(index["frontier"])
        _line(axes, x, y, 0, "this index, by search depth")
        if others:
            x, y = _coordinates(others)
            axes.scatter(x, y, color=_SERIES[2], marker=_MARKERS[2], label="other indexes tried")
        x, y = _coordinates([chosen])
        axes.scatter(
            x, y, s=130, facecolors="none", edgecolors=_TEXT, zorder=4, label="served search depth"
        )
        target = index["target_recall"]
        axes.axvline(target, color=_TEXT, linewidth=0.8, linestyle=":", label="target")
        axes.set_yscale("log")
        for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            set_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel(f"recall@{k}")
        axes.set_ylabel("queries/s, batch of 32")
        figure.legend(loc="outside upper left", ncols=4)
        return _svg(figure, name, label)


def _coordinates(points: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    return (
        [point["recall"] for point in points],
        [point["queries_per_second_of_32"] for point in points],
    )


def _ticks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the label of each slice above its number of test rows."""
    labels = [str(row["label"]) for row in rows]
    # With ten ticks, about 14 characters fit between two ticks.
    separator = "-" if max(map(len, labels)) <= 14 else "-\n"
    return [
        f"{label.replace(' to ', separator)}\n({row['rows']:,} rows)"
        for label, row in zip(labels, rows, strict=True)
    ]


def _line(axes: Axes, x: Sequence[float], values: Sequence[float], series: int, label: str) -> None:
    """Draw line ``series``. Line 0, the trained model, is solid and wider than the others."""
    style = series % SERIES
    axes.plot(
        x,
        values,
        color=_SERIES[style],
        marker=_MARKERS[style],
        markersize=5,
        linewidth=2.4 if series == 0 else 1.3,
        linestyle="-" if series == 0 else "--",
        zorder=3 if series == 0 else 2,
        label=label,
    )


def _svg(figure: Figure, name: str, label: str) -> str:
    """Return the figure as an SVG element whose identifiers begin with ``name``."""
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for color, page_color in _PAGE_COLORS.items():
        text = text.replace(color, page_color)
    return text.replace("<svg", f"<svg role='img' aria-label={quoteattr(label)}", 1)
