"""What a run says of itself: metrics.json for programs, a page and tables for people.

The page and the tables are made from the mapping that metrics.json holds and nothing
else, so they can be made again from the file.
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
    """Write both files into ``directory``, made here."""
    directory.mkdir()
    text = json.dumps(metrics, indent=2) + "\n"
    (directory / METRICS_JSON).write_text(text, encoding="utf-8")
    (directory / REPORT_HTML).write_text(html(metrics), encoding="utf-8")
