"""Compare the preset with variants of single settings on MovieLens 100K.

A fifth of the training rows of a random split is held out as validation rows. The preset, its
variants, EASE and iALS are trained on the other rows and evaluated on the validation rows. The
table has means over the seeds. The preset was chosen in this way. The test rows are not used.
"""

import time
from pathlib import Path

import trainer  # noqa: F401  (chooses Keras 2)

# isort: split
import numpy as np
from rich.console import Console

from benchmarks import reporting
from trainer import config, evaluation
from trainer.data import movielens, split
from trainer.data.types import Dataset
from trainer.evaluation import Quality, baselines
from trainer.model import training

PRESET = "movielens-100k"

VARIANTS: dict[str, list[str]] = {
    "the preset": [],
    "no item features": ["model.item_features=[]"],
    "all item features, words of titles included": ["model.item_features=['auto']"],
    "items always by id and features": ["model.item_id_dropout=0.0"],
    "user ids and histories": ["model.user_id=true"],
    "age, gender and occupation": ["model.user_features=['auto']"],
    "no ratings": ["training.rating_weight=0.0"],
    "items of the history are no targets": ["training.kept_weight=0.0"],
    "temperature 0.2": ["training.temperature=0.2"],
    "temperature 0.3": ["training.temperature=0.3"],
    "64 dimensions": ["model.embedding_dim=64"],
    "256 dimensions": ["model.embedding_dim=256"],
    "mean of the history": ["model.history_exponent=1.0"],
    "only the 20 newest items": ["model.history_length=20"],
    "sampled softmax, 512 negatives": [
        "training.objective=sampled_softmax",
        "training.negatives=512",
    ],
    "sampled softmax without logQ correction": [
        "training.objective=sampled_softmax",
        "training.negatives=512",
        "training.logq_correction=false",
    ],
    "the 200 hardest negatives": ["training.hard_negatives=200"],
    "early stopping on validation rows, then refitted": ["training.validation_share=0.1"],
}


def main() -> None:
    """Train every variant and print one line per variant."""
    parser = reporting.argument_parser("benchmarks.quality.ablation", __doc__)
    parser.add_argument("--data-dir", type=Path, help="Directory with the unpacked MovieLens 100K.")
    reporting.add_option(parser, "--seeds", [42, 7], "Seeds for the splits and the training")
    arguments = parser.parse_args()
    data = movielens.load(arguments.data_dir)
    print(f"{'':48} {'unseen 10':>9} {'unseen 100':>10} {'all 100':>8} {'seconds':>7}")
    for name in ("EASE", "iALS", *VARIANTS):
        started = time.perf_counter()
        qualities = [_evaluate(data, name, seed) for seed in arguments.seeds]
        seconds = (time.perf_counter() - started) / len(qualities)
        print(
            f"{name:48} {np.mean([quality.unseen_items.top_10 for quality in qualities]):9.4f} "
            f"{np.mean([quality.unseen_items.top_100 for quality in qualities]):10.4f} "
            f"{np.mean([quality.all_items.top_100 for quality in qualities]):8.4f} {seconds:7.0f}",
            flush=True,
        )


def _evaluate(data: Dataset, name: str, seed: int) -> Quality:
    """Train a variant or a baseline on four fifths of the training rows; evaluate on the fifth."""
    train = split.split(data.interactions, "random", 0.2, seed).train
    rows = split.split(train, "random", 0.2, seed + 1000)
    users, items = len(data.user_ids), len(data.item_ids)
    if name in VARIANTS:
        settings = config.load(PRESET, VARIANTS[name], seed)
        model = training.train(data, rows.train, settings, Console(quiet=True))
        scorer = model.scorer(baselines.popularity(rows.train, items))
    else:
        scorer = baselines.choose(rows.train, users, items, seed).builders[name]()
    return evaluation.evaluate(scorer, rows.train, rows.test)


if __name__ == "__main__":
    main()
