"""The ``ask`` command: asks a running service for candidates and prints them."""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from query_service.cli.options import add_service_options, fail
from query_service.errors import UnusableFile
from rpc import credentials

if TYPE_CHECKING:
    from query_service.client import Answer

_DEFAULT_ITEMS = Path("models/items.csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the request and for the output."""
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--user", metavar="ID", help="Ask for candidates for this user.")
    query.add_argument("--item", metavar="ID", help="Ask for items similar to this item.")
    parser.add_argument(
        "--recent",
        action="append",
        default=[],
        metavar="ID",
        help="With --user: a recent item of this user. Repeat this option, with the newest last.",
    )
    parser.add_argument(
        "-k",
        type=int,
        default=10,
        metavar="N",
        help="Number of candidates to ask for. (default: %(default)s)",
    )
    parser.add_argument(
        "--exclude-seen",
        action="store_true",
        help="Leave out items that the user has seen. With --item, that user is --viewer.",
    )
    parser.add_argument(
        "--viewer",
        default="",
        metavar="ID",
        help="With --item: the user whose seen items to leave out.",
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="ID",
        help="Leave out this item. Repeat this option to leave out more items.",
    )
    parser.add_argument(
        "--items",
        type=Path,
        metavar="FILE",
        help="Show titles from this CSV file with the columns item_id and title. (default: "
        f"SHORTLIST_ITEMS, or {_DEFAULT_ITEMS} if it exists)",
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    add_service_options(parser)


def run(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Print the answer to one request; return 0, or 1 if there is no answer."""
    import grpc

    if parsed.item and parsed.exclude_seen and not parsed.viewer:
        parser.error("--item with --exclude-seen needs --viewer, the user who has seen the items")
    if parsed.user and parsed.viewer:
        parser.error("--viewer can only be used with --item")
    if parsed.item and parsed.recent:
        parser.error("--recent can only be used with --user")
    try:
        titles = read_titles(parsed.items) if parsed.items else _default_titles()
        answer = _ask(parsed)
    except UnusableFile as error:
        return fail(str(error))
    # protobuf raises ValueError for text that is not UTF-8 and for numbers of over 32 bits.
    except ValueError as error:
        return fail(f"the request cannot be sent: {error}")
    except grpc.RpcError as error:
        return fail(f"{parsed.address}: {error.code().name}: {error.details()}")
    print((as_json if parsed.json else as_table)(answer, titles))  # noqa: T201
    return 0


def _ask(parsed: argparse.Namespace) -> Answer:
    from query_service.client import RetrievalClient

    options = asdict(credentials.read(parsed))
    with RetrievalClient(parsed.address, parsed.timeout_s, **options) as client:
        if parsed.user is not None:
            return client.for_user(
                parsed.user,
                parsed.k,
                recent=parsed.recent,
                exclude_seen=parsed.exclude_seen,
                exclude=parsed.exclude,
            )
        viewer = parsed.viewer if parsed.exclude_seen else ""
        return client.for_item(parsed.item, parsed.k, viewer_id=viewer, exclude=parsed.exclude)


def read_titles(path: Path) -> dict[str, str]:
    """Return the titles in the trainer's items.csv by item id.

    Raises:
        UnusableFile: The file cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            # If a row is too short, DictReader returns None for its title.
            return {row["item_id"]: row["title"] or "" for row in csv.DictReader(file)}
    except KeyError as error:
        raise UnusableFile(f"titles cannot be read: {path}: there is no column {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnusableFile(f"titles cannot be read: {path}: {error}") from error


def _default_titles() -> dict[str, str]:
    path = Path(os.environ.get("SHORTLIST_ITEMS", _DEFAULT_ITEMS))
    return read_titles(path) if path.is_file() else {}


def as_json(answer: Answer, titles: Mapping[str, str]) -> str:
    """Return the answer as a JSON object."""
    return json.dumps(
        {
            "origin": "model" if answer.personal else "popularity",
            "model_version": answer.model_version,
            "candidates": [
                {
                    "rank": rank,
                    "item_id": candidate.item_id,
                    "title": titles.get(candidate.item_id, ""),
                    "score": candidate.score,
                }
                for rank, candidate in enumerate(answer.candidates, start=1)
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def as_table(answer: Answer, titles: Mapping[str, str]) -> str:
    """Return the answer as a table, with a line below it that says where the ranking comes from."""
    rows = [("rank", "id", "title", "score")] + [
        (str(rank), item.item_id, titles.get(item.item_id, ""), f"{item.score:.4f}")
        for rank, item in enumerate(answer.candidates, start=1)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{rank:>{widths[0]}}  {item_id:<{widths[1]}}  {title:<{widths[2]}}  {score:>{widths[3]}}"
        for rank, item_id, title, score in rows
    ]
    origin = (
        "the model"
        if answer.personal
        else "popularity, because the model does not know the user or is unavailable"
    )
    return "\n".join([*lines, f"from {origin}, version {answer.model_version}"])
