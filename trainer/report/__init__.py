"""Reports on a version: metrics.json for programs, an HTML page and terminal tables for people.

The page and the tables are built from metrics.json alone, so they can be rebuilt from that file.

metrics   builds the parts of metrics.json
tables    the tables that the page and the terminal share
page      the HTML page, from report.html and style.css
plots     the SVG plots of the page
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving_contract import METRICS_JSON
from trainer.report import tables
from trainer.report.page import html
from trainer.report.tables import OURS

__all__ = ["OURS", "REPORT_HTML", "html", "show", "write"]

REPORT_HTML = "report.html"


def write(directory: Path, metrics: Mapping[str, Any]) -> None:
    """Create ``directory`` and write metrics.json and report.html into it."""
    directory.mkdir()
    text = json.dumps(metrics, indent=2) + "\n"
    (directory / METRICS_JSON).write_text(text, encoding="utf-8")
    (directory / REPORT_HTML).write_text(html(metrics), encoding="utf-8")


def show(console: Console, metrics: Mapping[str, Any]) -> None:
    """Print the quality tables, the baselines that were left out, and the indexes."""
    console.print(f"{metrics['dataset']['name']}: {tables.sizes(metrics)}", markup=False)
    for quality in tables.quality(metrics):
        table = Table(title=quality.title, title_justify="left")
        table.add_column("model")
        for heading in quality.columns:
            table.add_column(heading, justify="right")
        for model, cells in quality.rows.items():
            table.add_row(model, *(Text(cell.text, "bold" if cell.best else "") for cell in cells))
        console.print(table)
    for name, reason in metrics.get("baselines_left_out", {}).items():
        console.print(f"{name}: {reason}")
    for name, index in metrics["index"].items():
        reason = f" ({index['reason']})" if "reason" in index else ""
        console.print(
            f"{name}: {index['kind'].replace('_', ' ')}{reason}, recall@100 "
            f"{index['recall_at_100']:.4f}, {index['milliseconds']:.2f} ms per query, "
            f"{index['queries_per_second_of_32']:,.0f} queries/s in batches of 32",
            soft_wrap=True,
        )
