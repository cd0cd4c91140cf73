"""Reports on a version: metrics.json for programs, an HTML page and terminal tables for people.

The page and the tables are made from the content of metrics.json alone, so they can be made again
from that file.

metrics   builds the parts of metrics.json
tables    the tables that the page and the terminal share
page      the HTML page, from report.html and style.css
plots     the page's plots, as SVG
terminal  prints the tables
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving_contract import METRICS_JSON
from trainer.report.page import html
from trainer.report.tables import OURS
from trainer.report.terminal import show

__all__ = ["OURS", "REPORT_HTML", "html", "show", "write"]

REPORT_HTML = "report.html"


def write(directory: Path, metrics: Mapping[str, Any]) -> None:
    """Create ``directory`` and write metrics.json and report.html into it."""
    directory.mkdir()
    text = json.dumps(metrics, indent=2) + "\n"
    (directory / METRICS_JSON).write_text(text, encoding="utf-8")
    (directory / REPORT_HTML).write_text(html(metrics), encoding="utf-8")
