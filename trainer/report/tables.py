"""Builds the tables of a report, each with a definition of its values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The name of the trained model in tables that also list baselines.
OURS = "two towers"


@dataclass(frozen=True)
class Cell:
    """One value in a table.

    Attributes:
        text: the value, rounded.
        best: True if the rounded value is the highest in its column, even if tied.
    """

    text: str
    best: bool


@dataclass(frozen=True)
class Table:
    """A table with a model in each row and a metric in each column."""

    title: str
    definition: str
    columns: list[str]
    rows: dict[str, list[Cell]]


_TOP_K = {f"top_{k}": f"top-{k}" for k in (1, 5, 10, 50, 100)}
_PER_USER = {
    "recall_at_10": "recall@10",
    "recall_at_100": "recall@100",
    "ndcg_at_10": "NDCG@10",
    "ndcg_at_100": "NDCG@100",
}
# The title, definition and columns of the table for each kind of quality metric.
_QUALITY: dict[str, tuple[str, str, dict[str, str]]] = {
    "unseen_items": (
        "Top-k accuracy among unseen items (unseen_items)",
        "The share of test interactions whose item is among the k best of the catalogue, after "
        "the user's training items were removed from the ranking. A test interaction whose item "
        "is also a training item of the same user counts as a miss.",
        _TOP_K,
    ),
    "all_items": (
        "Top-k accuracy in the whole catalogue (all_items)",
        "The same share with the user's training items left in the ranking, where they take the "
        "places of new items. This is the top-k accuracy (FactorizedTopK) of TensorFlow "
        "Recommenders and its tutorials.",
        _TOP_K,
    ),
    "per_user": (
        "Mean over users (per_user)",
        "Means over the users with test interactions, after their training items were removed "
        "from the ranking. Recall@k is the share of the user's test items among the k best. "
        "NDCG@k sums 1 / log2(rank + 1) over these items and divides the sum by its value for the "
        "best possible ranking.",
        _PER_USER,
    ),
}


def quality(metrics: Mapping[str, Any]) -> list[Table]:
    """Return a table for each kind of quality metric; none without test rows."""
    if "test" not in metrics:
        return []
    models = {OURS: metrics["test"], **metrics["baselines"]}
    return [
        _table(title, definition, columns, {name: model[key] for name, model in models.items()})
        for key, (title, definition, columns) in _QUALITY.items()
        if key in metrics["test"]
    ]


def coverage(metrics: Mapping[str, Any]) -> Table | None:
    """Return the table of catalogue coverage, or None if it was not measured."""
    if "coverage" not in metrics:
        return None
    return _table(
        "Catalogue coverage",
        "The share of the catalogue that is among the k best unseen items of at least one user "
        "with test interactions. More is not always better: random candidates cover everything.",
        {"top_10": "top-10", "top_100": "top-100"},
        metrics["coverage"],
    )


def next_items(metrics: Mapping[str, Any]) -> Table | None:
    """Return the table of next-item accuracy, or None if no test row follows a training row."""
    if not metrics.get("item_to_item"):
        return None
    return _table(
        "Next items",
        "The share of test interactions whose item is among the k items most similar to the "
        "user's last training item before it. Similarity uses the candidate vectors and, if they "
        "were trained, the query vectors of items.",
        {"top_10": "top-10", "top_100": "top-100"},
        {name.replace("_", " "): quality for name, quality in metrics["item_to_item"].items()},
    )


def slices(rows: Sequence[Mapping[str, Any]], title: str, definition: str) -> Table:
    """Return a table with a column for each slice of the test rows."""
    columns = {str(i): f"{row['label']}\n{row['rows']:,} rows" for i, row in enumerate(rows)}
    values = {
        model: {str(i): row["top_100"][model] for i, row in enumerate(rows)}
        for model in rows[0]["top_100"]
    }
    return _table(title, definition, columns, values)


def sizes(metrics: Mapping[str, Any]) -> str:
    """Return one line of text with the sizes of the data set and its split."""
    data = metrics["dataset"]
    if "train" not in data:
        return f"{data['items']:,} items"
    return (
        f"{data['users']:,} users, {data['items']:,} items, "
        f"{data['train']:,} training and {data['test']:,} test rows ({data['split']})"
    )


# The headings and formats of operating-point columns whose key alone would be unclear. ScaNN calls
# partitions leaves.
_INDEX_COLUMNS = {
    "items": ("items", "{:,}"),
    "leaves": ("partitions", "{:,}"),
    "anisotropic_threshold": ("threshold", "{:g}"),
    "k": ("k", "{:,}"),
    "leaves_searched": ("partitions searched", "{:,}"),
    "recall": ("recall", "{:.4f}"),
    "milliseconds": ("ms, one query", "{:.3f}"),
    "queries_per_second_of_32": ("queries/s, batch of 32", "{:,.0f}"),
}


def index_points(points: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the headings and rows of a table of operating points, with a column for each key."""
    # The point with the most keys determines the column order.
    by_length = sorted(points, key=len, reverse=True)
    names = list(dict.fromkeys(name for point in by_length for name in point))
    columns = [_INDEX_COLUMNS.get(name, (name.replace("_", " "), "{}")) for name in names]
    rows = [
        [
            template.format(point[name]) if name in point else ""
            for name, (_, template) in zip(names, columns, strict=True)
        ]
        for point in points
    ]
    return [heading for heading, _ in columns], rows


def refreshed(metrics: Mapping[str, Any]) -> str | None:
    """Return a text about the changes of a refresh, or None for a trained version."""
    if "refreshed_from" not in metrics:
        return None
    counts = ", ".join(f"{count:,} {change}" for change, count in metrics["refresh"].items())
    return (
        f"Refreshed from version {metrics['refreshed_from']} without training: items {counts}. "
        f"The quality and training results are from version {metrics['trained_version']}."
    )


def _table(
    title: str,
    definition: str,
    columns: Mapping[str, str],
    values: Mapping[str, Mapping[str, float]],
) -> Table:
    """Return a table with a row for each model in ``values``, and the headings of ``columns``."""
    texts = {model: [f"{row[column]:.4f}" for column in columns] for model, row in values.items()}
    # Compare rounded values, so that values that look equal are marked alike.
    highest = [max(column, key=float) for column in zip(*texts.values(), strict=True)]
    rows = {
        model: [Cell(text, text == best) for text, best in zip(row, highest, strict=True)]
        for model, row in texts.items()
    }
    return Table(title, definition, list(columns.values()), rows)
