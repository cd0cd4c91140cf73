"""What a run says of itself: metrics.json for programs, a page and a table for people."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from serving_contract import METRICS_JSON
from trainer.evaluation import TOP_KS

REPORT_MD = "report.md"


def write(directory: Path, metrics: Mapping[str, Any]) -> None:
    """Write both files into ``directory``, made here."""
    directory.mkdir()
    text = json.dumps(metrics, indent=2) + "\n"
    (directory / METRICS_JSON).write_text(text, encoding="utf-8")
    (directory / REPORT_MD).write_text(_markdown(metrics), encoding="utf-8")


def show(console: Console, metrics: Mapping[str, Any]) -> None:
    """Print the quality table and the index recall."""
    table = Table(title=_title(metrics), title_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in _HEADINGS[:2] else "right")
    for row in _rows(metrics):
        table.add_row(*row)
    console.print(table)
    for name, index in metrics["index"].items():
        console.print(
            f"{name}: {index['kind']}, recall@100 {index['recall_at_100']:.4f} "
            f"over {index['queries']} users"
        )


_HEADINGS = ("metric", "model", *(f"top-{k}" for k in TOP_KS))


def _title(metrics: Mapping[str, Any]) -> str:
    data = metrics["dataset"]
    return (
        f"{data['name']}: {data['users']:,} users, {data['items']:,} items, "
        f"{data['train']:,} training and {data['test']:,} test rows ({data['split']})"
    )


def _rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    models = {"two towers": metrics["test"], **metrics["baselines"]}
    return [
        [definition, name, *(f"{quality[definition][f'top_{k}']:.4f}" for k in TOP_KS)]
        for definition in ("all_items", "unseen_items")
        for name, quality in models.items()
    ]


def _markdown(metrics: Mapping[str, Any]) -> str:
    lines = [
        f"# {_title(metrics)}",
        "",
        "Share of the test interactions whose item is among the k best of the whole catalogue:",
        "`all_items` ranks every item, `unseen_items` leaves out the user's training items.",
        "",
        _line(_HEADINGS),
        _line(["---", "---", *["---:"] * len(TOP_KS)]),
        *(_line(row) for row in _rows(metrics)),
        "",
        "| index | kind | recall@100 |",
        "|---|---|---:|",
        *(
            _line([name, index["kind"], f"{index['recall_at_100']:.4f}"])
            for name, index in metrics["index"].items()
        ),
        "",
        f"Trained in {metrics['train_seconds']:.1f} s, "
        f"{metrics['train_interactions_per_second']:,.0f} interactions per second.",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
