"""The command ``verify``."""

import argparse

from rich.console import Console

from trainer.cli.arguments import add_models_dir, positive_int
from trainer.errors import StoreError
from trainer.registry import checksums
from trainer.registry.store import Store
from trainer.registry.version_record import VersionRecord

HELP = "Check a stored version again: files, model answers and index recall."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_dir(parser)
    parser.add_argument(
        "version",
        type=positive_int,
        nargs="?",
        help="The number of the version to check. The default is the served one.",
    )
    parser.add_argument(
        "--files-only",
        action="store_true",
        help="Only compare the files with their checksums. This does not need TensorFlow.",
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    store = Store.open_existing(arguments.models_dir)
    version = arguments.version or store.current()
    if version is None:
        raise StoreError(f"no version is served in {store.models_dir}")
    if arguments.files_only:
        directory = store.directory(version)
        files = checksums.verify(directory, VersionRecord.read(directory))
        text = f"Version {version}: {files} files are as published"
    else:
        text = _reevaluate(store, version)
    console.print(text, soft_wrap=True)


def _reevaluate(store: Store, version: int) -> str:
    from trainer.registry.reevaluation import reevaluate

    result = reevaluate(store, version)
    recall = (
        "recall was not measured because no user or item is known"
        if result["recall_at_100"] is None
        else f"recall@100 {result['recall_at_100']:.4f} of {result['queries']} queries"
    )
    return (
        f"Version {version} is sound: {result['files']} files are as published, "
        f"{result['requests']} requests answered, {recall}"
    )
