"""How good the candidates are on MovieLens 100K, beside strong baselines.

    python -m benchmarks.quality --data-dir data/ml-100k [--seeds 1 2 3] [--json FILE]

Preset ``movielens-100k`` and the baselines on the same splits, one per seed; means over the
seeds and the spread. Then what the preset's parts are good for: users that the model has never
met, new items, and similar items. Nothing is chosen here: the preset's and the baselines'
parameters were chosen on validation slices of training rows.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import trainer  # noqa: F401  (chooses Keras 2)

# isort: split
import numpy as np
from rich.console import Console

from trainer import config, evaluation
from trainer.data import histories, movielens, split
from trainer.data.types import Dataset, Split
from trainer.evaluation import Quality, baselines
from trainer.model import item_to_item, training
from trainer.model.training import TrainedModel

PRESET = "movielens-100k"
_QUIET = Console(quiet=True)

Figures = dict[str, list[float]]


def main() -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, help="the unpacked MovieLens 100K")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data = movielens.load(arguments.data_dir)
    sections: dict[str, Callable[[int], Mapping[str, float]]] = {
        "random split": lambda seed: _beside(data, "random", seed),
        "last 20 % of every user": lambda seed: _beside(data, "temporal_per_user", seed),
        "users never met, random split": lambda seed: _met(data, seed),
        "items never met, random split": lambda seed: _new(data, seed),
        "next items, last 20 % of every user": lambda seed: _next(data, seed),
    }
    found: dict[str, Figures] = {}
    for title, measure in sections.items():
        found[title] = _each(arguments.seeds, measure)
        _show(title, found[title])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _each(seeds: list[int], measure: Callable[[int], Mapping[str, float]]) -> Figures:
    figures: Figures = {}
    for seed in seeds:
        for name, value in measure(seed).items():
            figures.setdefault(name, []).append(value)
    return figures


def _show(title: str, figures: Figures) -> None:
    print(f"\n{title}", flush=True)
    for name, values in figures.items():
        print(f"  {name:58} {np.mean(values):8.4f}  ({min(values):.4f} to {max(values):.4f})")


def _beside(data: Dataset, kind: Any, seed: int) -> dict[str, float]:
    """Ours and the baselines."""
    settings = config.load(PRESET, [f"split.kind={kind}"], seed)
    parts = split.split(data.interactions, kind, settings.split.test_share, seed)
    started = time.perf_counter()
    model = training.train(data, parts.train, settings, _QUIET)
    seconds = time.perf_counter() - started
    qualities = {"two towers": _quality(model, parts)}
    others = baselines.choose(parts.train, len(data.user_ids), len(data.item_ids), seed)
    for name, build in others.builders.items():
        qualities[name] = evaluation.evaluate(build(), parts.train, parts.test)
    return {
        f"{name}, {definition} top-{k}": getattr(getattr(quality, definition), f"top_{k}")
        for definition, k in (("unseen_items", 100), ("unseen_items", 10), ("all_items", 100))
        for name, quality in qualities.items()
    } | {"training, seconds": seconds}


def _met(data: Dataset, seed: int) -> dict[str, float]:
    """A tenth of the users: in training, or only known by what is sent along."""
    settings = config.load(PRESET, seed=seed)
    parts = split.split(data.interactions, "random", settings.split.test_share, seed)
    strangers = np.random.default_rng(seed).random(len(data.user_ids)) < 0.1
    train = parts.train.take(~strangers[parts.train.users])
    theirs = Split("strangers", parts.train, parts.test.take(strangers[parts.test.users]))
    known = training.train(data, parts.train, settings, _QUIET)
    without = training.train(data, train, settings, _QUIET)
    done = histories.of(parts.train, len(data.user_ids))
    figures = {"known users, unseen_items top-100": _top_100(known, known.query_vectors(), theirs)}
    for length, name in ((1000, "all they did"), (20, "their last 20"), (3, "their last 3")):
        queries = without.query.embed(done.newest(length))
        figures[f"never met, asked with {name}"] = _top_100(without, queries, theirs)
    return figures


def _new(data: Dataset, seed: int) -> dict[str, float]:
    """A tenth of the items without a single training row."""
    figures = {}
    for name, features in (("genres and year", ["genres", "year"]), ("ids only", [])):
        settings = config.load(PRESET, [f"model.item_features={json.dumps(features)}"], seed)
        parts = split.split(data.interactions, "random", settings.split.test_share, seed)
        new = np.random.default_rng(seed).random(len(data.item_ids)) < 0.1
        train = parts.train.take(~new[parts.train.items])
        model = training.train(data, train, settings, _QUIET)
        theirs = Split("new items", train, parts.test.take(new[parts.test.items]))
        figures[f"{name}, unseen_items top-100"] = _top_100(model, model.query_vectors(), theirs)
    return figures


def _next(data: Dataset, seed: int) -> dict[str, float]:
    """Similar items by the candidate vectors, and by the tower trained for it."""
    settings = config.load(PRESET, ["split.kind=temporal_per_user"], seed)
    parts = split.split(data.interactions, "temporal_per_user", settings.split.test_share, seed)
    model = training.train(data, parts.train, settings, _QUIET)
    vectors = model.candidate_vectors
    trained = item_to_item.train(
        model.histories, vectors, settings.item_to_item, seed=seed, console=_QUIET
    )
    figures = {}
    for name, queries in (("candidate vectors", vectors), ("trained", trained)):
        quality = item_to_item.evaluate(queries, vectors, parts)
        assert quality is not None
        figures[f"{name}, top-10"] = quality.top_10
        figures[f"{name}, top-100"] = quality.top_100
    return figures


def _quality(model: TrainedModel, parts: Split, queries: np.ndarray | None = None) -> Quality:
    popularity = baselines.popularity(parts.train, len(model.candidate_vectors))
    scorer = evaluation.dot_product_scorer(
        model.query_vectors() if queries is None else queries,
        model.candidate_vectors,
        model.known_users if queries is None else np.ones(len(queries), bool),
        popularity,
    )
    return evaluation.evaluate(scorer, parts.train, parts.test)


def _top_100(model: TrainedModel, queries: np.ndarray, parts: Split) -> float:
    return _quality(model, parts, queries).unseen_items.top_100


if __name__ == "__main__":
    main()
