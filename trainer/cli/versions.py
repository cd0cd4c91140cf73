"""The command ``versions``."""

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from trainer.cli.arguments import add_models_dir
from trainer.registry import disk, promotion
from trainer.registry.store import Store
from trainer.registry.version_record import VersionRecord

HELP = "List the published versions with their gate results, and mark the one that is served."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_dir(parser)
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")


def run(arguments: argparse.Namespace, console: Console) -> None:
    versions = _describe(Store.open_existing(arguments.models_dir))
    if arguments.json:
        console.out(json.dumps(versions, indent=2), highlight=False)
    else:
        console.print(_table(versions))


def _describe(store: Store) -> list[dict[str, Any]]:
    current, target = store.current(), promotion.rollback_target(store)
    described = []
    for version in store.versions():
        directory = store.directory(version)
        record = VersionRecord.read(directory)
        described.append(
            {
                "version": version,
                "created": record.created,
                "source": record.source,
                "dataset": record.dataset,
                "current": version == current,
                "rollback_target": version == target,
                "gate": record.gate,
                "failed": record.failures,
                "unseen_top_100": record.unseen_top_100,
                "index_recall_at_100": record.index_recall_at_100,
                "items": record.items,
                "size_bytes": disk.size_bytes(directory),
                "promotions": [vars(entry) for entry in record.promotions],
            }
        )
    return described


def _table(versions: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for heading in ("version", "created (UTC)", "by", "", "gate"):
        table.add_column(heading, no_wrap=True)
    for heading in ("top-100", "recall", "items", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for version in versions:
        quality = version["unseen_top_100"]
        table.add_row(
            str(version["version"]),
            version["created"][:16].replace("T", " "),
            version["source"],
            "served" if version["current"] else "rollback" if version["rollback_target"] else "",
            version["gate"],
            "" if quality is None else f"{quality:.4f}",
            f"{version['index_recall_at_100']:.4f}",
            f"{version['items']:,}",
            f"{version['size_bytes'] / 1e6:,.1f} MB",
        )
    return table
