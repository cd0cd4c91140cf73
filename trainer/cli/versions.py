"""``versions``, ``promote``, ``rollback``, ``gc`` and ``verify`` on the command line."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trainer.errors import LifecycleError, StoreError
from trainer.registry import checksums as sealing
from trainer.registry import disk
from trainer.registry import promotion as switching
from trainer.registry import version_record as record
from trainer.registry.store import Store


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The commands and their arguments; ``manages`` is what each does."""
    versions = _command(commands, "versions", _versions, "list what is in MODELS_DIR")
    versions.add_argument("--json", action="store_true", help="for programs")

    promote = _command(commands, "promote", _promote, "serve another version")
    promote.add_argument("version", type=_whole)
    promote.add_argument(
        "--reason", metavar="TEXT", type=_text, help="needed where it did not pass its gate"
    )

    rollback = _command(commands, "rollback", _rollback, "serve the version of before again")
    rollback.add_argument("--to", type=_whole, metavar="VERSION", help="that one instead")
    rollback.add_argument("--reason", metavar="TEXT", type=_text, help="for the record")

    collect = _command(commands, "gc", _collect, "remove old versions")
    collect.add_argument(
        "--keep", type=_whole, metavar="N", default=3, help="the newest; default 3"
    )

    verify = _command(commands, "verify", _verify, "check a stored version again")
    verify.add_argument("version", type=_whole, nargs="?", help="default: the served one")
    verify.add_argument(
        "--files-only", action="store_true", help="compare digests alone: needs no TensorFlow"
    )


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    does: Any,
    text: str,
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text)
    command.set_defaults(manages=does)
    command.add_argument("--models-dir", type=Path, metavar="DIR", required=True)
    return command


def _versions(parsed: argparse.Namespace, console: Console) -> None:
    store = Store.opened(parsed.models_dir)
    current, target = store.current(), switching.rollback_target(store)
    found = []
    for version in store.versions():
        directory = store.directory(version)
        one = record.read(directory)
        found.append(
            {
                "version": version,
                "created": one.created,
                "source": one.source,
                "dataset": one.dataset,
                "current": version == current,
                "rollback_target": version == target,
                "gate": one.gate,
                "failed": one.failed,
                "unseen_top_100": one.unseen_top_100,
                "index_recall_at_100": one.index_recall_at_100,
                "items": one.items,
                "size_bytes": disk.size_bytes(directory),
                "promotions": [vars(promotion) for promotion in one.promotions],
            }
        )
    if parsed.json:
        console.out(json.dumps(found, indent=2), highlight=False)
    else:
        console.print(_table(found))


def _table(versions: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for heading in ("version", "created (UTC)", "by", "", "gate"):
        table.add_column(heading, no_wrap=True)
    for heading in ("top-100", "recall", "items", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in versions:
        unseen = one["unseen_top_100"]
        table.add_row(
            str(one["version"]),
            one["created"][:16].replace("T", " "),
            one["source"],
            "served" if one["current"] else "rollback" if one["rollback_target"] else "",
            one["gate"],
            "" if unseen is None else f"{unseen:.4f}",
            f"{one['index_recall_at_100']:.4f}",
            f"{one['items']:,}",
            f"{one['size_bytes'] / 1e6:,.1f} MB",
        )
    return table


def _promote(parsed: argparse.Namespace, console: Console) -> None:
    before = switching.promote(Store.opened(parsed.models_dir), parsed.version, parsed.reason)
    instead = "" if before is None else f" instead of {before}"
    console.print(f"Version {parsed.version} is served{instead}")


def _rollback(parsed: argparse.Namespace, console: Console) -> None:
    target, before = switching.rollback(Store.opened(parsed.models_dir), parsed.to, parsed.reason)
    console.print(f"Version {target} is served instead of {before}")


def _collect(parsed: argparse.Namespace, console: Console) -> None:
    store = Store.opened(parsed.models_dir)
    gone = switching.collect(store, parsed.keep)
    stays = ", ".join(map(str, store.versions())) or "none"
    console.print(f"Removed: {', '.join(map(str, gone)) or 'none'}. There is: {stays}")


def _verify(parsed: argparse.Namespace, console: Console) -> None:
    store = Store.opened(parsed.models_dir)
    version = parsed.version or store.current()
    if version is None:
        raise StoreError(f"no version is served in {store.models_dir}")
    if parsed.files_only:
        directory = store.existing(version)
        files = sealing.check(directory, record.read(directory))
        console.print(f"Version {version}: {files} files as published", soft_wrap=True)
        return
    # TensorFlow takes seconds to import; no other command needs it.
    from trainer.errors import VerificationError
    from trainer.probe import recheck

    try:
        found = recheck.recheck(store, version)
    except VerificationError as error:
        raise LifecycleError(str(error)) from error
    recall = found["recall_at_100"]
    console.print(
        f"Version {version} is sound: {found['files']} files as published, {found['requests']} "
        f"requests answered, "
        + (
            "no known id to measure the recall with"
            if recall is None
            else f"recall@100 {recall:.4f} of {found['queries']} queries"
        ),
        soft_wrap=True,
    )


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must say something")
    return text.strip()
