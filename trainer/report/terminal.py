"""Prints a report to a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.report import tables


def show(console: Console, metrics: Mapping[str, Any]) -> None:
    """Print the quality tables, the baselines that were left out, and the indexes."""
    console.print(f"{metrics['dataset']['name']}: {tables.sizes(metrics)}", markup=False)
    for one in tables.quality(metrics):
        table = Table(title=one.title, title_justify="left")
        table.add_column("model")
        for heading in one.columns:
            table.add_column(heading, justify="right")
        for model, cells in one.rows.items():
            table.add_row(model, *(Text(c.text, "bold" if c.best else "") for c in cells))
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
