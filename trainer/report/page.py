"""Builds the report as one HTML file that works offline."""

from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trainer.report import plots, tables

_SLICES = {
    "item_popularity": (
        "By item popularity",
        "The catalogue is divided into ten equal parts by training interactions, the most "
        "popular items first. Parts without test interactions are left out.",
        "training interactions of the item",
    ),
    "user_history": (
        "By history length",
        "The users with test interactions are divided at the quintiles of their numbers of "
        "training interactions.",
        "training interactions of the user",
    ),
}

# The parts that may be missing from metrics.json.
_EMPTY: dict[str, Any] = {
    "baselines_left_out": {},
    "slices": {},
    "learning_curve": {},
    "similar_items": [],
    "config": {},
    "versions": {},
}


def html(metrics: Mapping[str, Any]) -> str:
    """Return the page for the content of metrics.json, without the parts that are missing."""
    metrics = {**_EMPTY, **metrics}
    environment = Environment(
        loader=PackageLoader("trainer.report", package_path="."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["setting"] = _setting
    return environment.get_template("report.html").render(
        metrics=metrics,
        ours=tables.OURS,
        sizes=tables.sizes(metrics),
        refreshed=tables.refreshed(metrics),
        headline=list(_headline(metrics)),
        quality=tables.quality(metrics),
        coverage=tables.coverage(metrics),
        next_items=tables.next_items(metrics),
        slices=list(_slices(metrics)),
        learning_curve=_learning_curve(metrics),
        indexes=[_index(name, index) for name, index in metrics["index"].items()],
        configuration=_sections(metrics["config"]),
    )


def _headline(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the most important results, each with its meaning."""
    if "test" in metrics:
        baselines = metrics["baselines"]
        for k in (10, 100):
            key, meaning = f"top_{k}", f"unseen_items top-{k}"
            shares = {name: baselines[name]["unseen_items"][key] for name in baselines}
            if shares:
                best = max(shares, key=shares.__getitem__)
                meaning += f"; best baseline ({best}): {shares[best]:.1%}"
            yield f"{metrics['test']['unseen_items'][key]:.1%}", meaning
    if "coverage" in metrics:
        share = metrics["coverage"][tables.OURS]["top_100"]
        yield f"{share:.0%}", "of the catalogue is among some user's 100 best items"
    name, index = min(metrics["index"].items(), key=lambda item: item[1]["recall_at_100"])
    yield f"{index['recall_at_100']:.1%}", f"recall@100 of the index {name}"
    if "train_seconds" in metrics:
        yield f"{metrics['train_seconds']:,.1f} s", "training time"


def _slices(metrics: Mapping[str, Any]) -> Iterator[tuple[tables.Table, Markup]]:
    """Yield a table and its plot for every way of slicing the test rows."""
    for key, (title, definition, x_label) in _SLICES.items():
        rows = metrics["slices"].get(key)
        if rows:
            label = f"unseen_items top-100 of every model by {x_label}; see the table below"
            plot = plots.slices(rows, key.replace("_", "-"), label, x_label)
            yield tables.slices(rows, title, definition), Markup(plot)


def _learning_curve(metrics: Mapping[str, Any]) -> Markup | None:
    curve = metrics["learning_curve"]
    if not curve.get("epoch"):
        return None
    label = f"Training loss by epoch, from {curve['loss'][0]:,.4g} to {curve['loss'][-1]:,.4g}"
    if curve.get("validation"):
        last = curve["validation"][-1]
        label += f". The last unseen_items top-100 on validation rows is {last:.4f}"
    return Markup(plots.learning_curve(curve, "learning-curve", label))


def _index(name: str, index: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that the page shows for an index."""
    points = {"Search depth by k": index.get("by_k", []), "Indexes tried": index.get("tried", [])}
    return {
        "reason": "",
        **index,
        "name": name,
        "kind": index["kind"].replace("_", " "),
        "points": {
            title: tables.index_points(rows) for title, rows in points.items() if len(rows) > 1
        },
        "frontier": _frontier(index),
    }


def _frontier(index: Mapping[str, Any]) -> Markup | None:
    if not index.get("frontier"):
        return None
    label = "Recall@100 and queries per second in batches of 32, by search depth"
    return Markup(plots.frontier(index, "frontier", label))


def _sections(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings in one dict, where settings in a section have keys ``section.key``."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            settings |= {f"{key}.{name}": setting for name, setting in value.items()}
        else:
            settings[key] = value
    return settings


def _setting(value: Any) -> str:
    """Return a value as it is written in configuration files."""
    return str(value).lower() if isinstance(value, bool) else str(value)
