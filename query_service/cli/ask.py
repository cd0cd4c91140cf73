"""``python -m query_service ask``: a question from the command line, answered as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from query_service.client import Answer

DEFAULT_ITEMS = Path("models/items.csv")


class TitlesError(Exception):
    """There is no reading the titles."""


def read_titles(path: Path) -> dict[str, str]:
    """Titles by item id, from the trainer's items.csv.

    Raises:
        TitlesError: there is no such file, or it is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            # A short row has None in place of a title.
            return {row["item_id"]: row["title"] or "" for row in csv.DictReader(file)}
    except KeyError as error:
        raise TitlesError(f"{path}: there is no column {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TitlesError(f"{path}: {error}") from error


def as_json(answer: Answer, titles: Mapping[str, str]) -> str:
    """The answer as one JSON object."""
    return json.dumps(
        {
            "origin": "model" if answer.personal else "popularity",
            "model_version": answer.model_version,
            "candidates": [
                {
                    "rank": rank,
                    "item_id": one.item_id,
                    "title": titles.get(one.item_id, ""),
                    "score": one.score,
                }
                for rank, one in enumerate(answer.candidates, start=1)
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def as_table(answer: Answer, titles: Mapping[str, str]) -> str:
    """Rank, id, title and score in columns, and where they come from."""
    rows = [("rank", "id", "title", "score")] + [
        (str(rank), one.item_id, titles.get(one.item_id, ""), f"{one.score:.4f}")
        for rank, one in enumerate(answer.candidates, start=1)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{rank:>{widths[0]}}  {item_id:<{widths[1]}}  {title:<{widths[2]}}  {score:>{widths[3]}}"
        for rank, item_id, title, score in rows
    ]
    origin = (
        "the model"
        if answer.personal
        else "popularity: the model does not know the user, or is away"
    )
    return "\n".join([*lines, f"from {origin}, version {answer.model_version}"])
