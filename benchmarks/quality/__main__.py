"""Compare the recall of the trained model on MovieLens 100K with strong baselines.

The preset ``movielens-100k`` and the baselines are trained on the same splits, one per seed. Then
recall is measured for users without training rows, for new items, and for next items. All results
are means over the seeds, with the range. The hyperparameters of the preset and the baselines were
chosen beforehand, on validation slices of the training rows.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import trainer  # noqa: F401  (chooses Keras 2)

# isort: split
import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks import reporting
from trainer import config, evaluation
from trainer.data import histories, movielens, split
from trainer.data.types import Dataset, Split
from trainer.evaluation import Quality, baselines
from trainer.model import item_to_item, training
from trainer.model.training import TrainedModel

PRESET = "movielens-100k"
_QUIET = Console(quiet=True)


def main() -> None:
    """Run all measurements and print the results."""
    parser = reporting.argument_parser("benchmarks.quality", __doc__)
    parser.add_argument("--data-dir", type=Path, help="Directory with the unpacked MovieLens 100K.")
    reporting.add_option(parser, "--seeds", [1, 2, 3], "Seeds for the splits and the training")
    reporting.add_json(parser)
    arguments = parser.parse_args()
    data = movielens.load(arguments.data_dir)
    sections: dict[str, Callable[[int], Mapping[str, float]]] = {
        "random split": lambda seed: _against_baselines(data, "random", seed),
        "last 20 % of every user": lambda seed: _against_baselines(data, "temporal_per_user", seed),
        "users not trained on, random split": lambda seed: _new_users(data, seed),
        "items not trained on, random split": lambda seed: _new_items(data, seed),
        "next items, last 20 % of every user": lambda seed: _next_items(data, seed),
    }
    results = {}
    for title, measure in sections.items():
        # One column per measurement, one row per seed.
        figures = pd.DataFrame([measure(seed) for seed in arguments.seeds])
        print(f"\n{title}")
        for name, values in figures.items():
            ranged = f"({values.min():.4f} to {values.max():.4f})"
            print(f"  {name:58} {values.mean():8.4f}  {ranged}", flush=True)
        results[title] = figures.to_dict("list")
    reporting.write_json(arguments, ["tensorflow", "implicit"], results=results)


def _against_baselines(data: Dataset, kind: Any, seed: int) -> dict[str, float]:
    """Return the recall of the preset and the baselines, and the training time of the preset."""
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


def _new_users(data: Dataset, seed: int) -> dict[str, float]:
    """Return the recall for a tenth of the users, with and without their rows in the training."""
    settings = config.load(PRESET, seed=seed)
    parts = split.split(data.interactions, "random", settings.split.test_share, seed)
    is_new = np.random.default_rng(seed).random(len(data.user_ids)) < 0.1
    train = parts.train.take(~is_new[parts.train.users])
    held_out = Split("new users", parts.train, parts.test.take(is_new[parts.test.users]))
    known = training.train(data, parts.train, settings, _QUIET)
    without = training.train(data, train, settings, _QUIET)
    user_histories = histories.from_rows(parts.train, len(data.user_ids))
    figures = {"known users, unseen_items top-100": _quality(known, held_out).unseen_items.top_100}
    for length, name in ((1000, "their whole history"), (20, "their last 20"), (3, "their last 3")):
        scorer = evaluation.dot_product_scorer(
            without.query.embed(user_histories.newest(length)),
            without.candidate_vectors,
            np.ones(len(data.user_ids), bool),
            baselines.popularity(held_out.train, len(data.item_ids)),
        )
        quality = evaluation.evaluate(scorer, held_out.train, held_out.test)
        figures[f"not trained on, asked with {name}"] = quality.unseen_items.top_100
    return figures


def _new_items(data: Dataset, seed: int) -> dict[str, float]:
    """Return the recall of a tenth of the items, which have no training rows."""
    figures = {}
    for name, features in (("genres and year", ["genres", "year"]), ("ids only", [])):
        settings = config.load(PRESET, [f"model.item_features={json.dumps(features)}"], seed)
        parts = split.split(data.interactions, "random", settings.split.test_share, seed)
        is_new = np.random.default_rng(seed).random(len(data.item_ids)) < 0.1
        train = parts.train.take(~is_new[parts.train.items])
        model = training.train(data, train, settings, _QUIET)
        held_out = Split("new items", train, parts.test.take(is_new[parts.test.items]))
        quality = _quality(model, held_out)
        figures[f"{name}, unseen_items top-100"] = quality.unseen_items.top_100
    return figures


def _next_items(data: Dataset, seed: int) -> dict[str, float]:
    """Return the recall of next items, with candidate vectors and with trained query vectors."""
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


def _quality(model: TrainedModel, parts: Split) -> Quality:
    popularity = baselines.popularity(parts.train, len(model.candidate_vectors))
    return evaluation.evaluate(model.scorer(popularity), parts.train, parts.test)


if __name__ == "__main__":
    main()
