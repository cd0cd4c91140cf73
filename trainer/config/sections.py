"""What can be configured: sections of typed fields, each with a default, a range and a sentence."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal


def _setting(default: Any, text: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """A field with its default, its sentence and its range (both ends included)."""
    return field(default=default, metadata={"text": text, "low": low, "high": high})


@dataclass(frozen=True)
class SplitConfig:
    """How rows are held out for the test."""

    kind: Literal["random", "temporal", "temporal_per_user"] = _setting(
        "random",
        "random rows, the rows after a point in time, or the last rows of every user",
    )
    test_share: float = _setting(0.2, "share of the rows held out", 0.001, 0.9)


@dataclass(frozen=True)
class ModelConfig:
    """The two towers."""

    embedding_dim: int = _setting(64, "length of the towers' vectors", 1, 4096)
    normalize: bool = _setting(
        True, "scale every vector to length 1, so that scores are cosines and similar items too"
    )
    history_length: int = _setting(
        500, "how many of a user's newest items make the query; 0: none of them", 0, 100_000
    )
    history_exponent: float = _setting(0.5, "0: their sum, 1: their mean", 0.0, 1.0)
    user_id: bool = _setting(False, "give every user a vector of their own beside the history")
    user_id_dropout: float = _setting(
        0.0, "share of the users that a step treats as without that vector", 0.0, 1.0
    )
    user_features: tuple[str, ...] = _setting(
        (), "columns of users, name:kind or name (category, tags, number, text); auto: every one"
    )
    item_features: tuple[str, ...] = _setting(("auto",), "columns of items, in the same way")
    item_id_dropout: float = _setting(
        0.1, "share of the items that a step knows by their features alone", 0.0, 1.0
    )
    new_item_scale: float = _setting(
        0.85,
        "vectors of items without training rows are scaled by it: below 1 they are shown less",
        0.0,
        1.0,
    )


@dataclass(frozen=True)
class TrainingConfig:
    """What is predicted from what, against which candidates, and how long."""

    objective: Literal["auto", "full_softmax", "sampled_softmax", "in_batch"] = _setting(
        "auto",
        "a softmax over the whole catalogue, over a sample of it, or over the rows of the batch; "
        "auto: the whole one up to 20,000 items, else a sample",
    )
    targets: Literal["auto", "random", "future"] = _setting(
        "auto",
        "predict some of a user's items from the others, or the later from the earlier ones; "
        "auto: as the split holds out",
    )
    kept_weight: float = _setting(
        0.0,
        "of the items of the query as targets beside those left out of it; random targets only",
        0.0,
        1.0,
    )
    batch_size: int = _setting(
        0,
        "users of a step, or with the in_batch objective rows, the others' items as negatives; "
        "0: 128 users, more where there are many, or 4,096 rows",
        0,
    )
    negatives: int = _setting(4096, "items drawn as negatives beside those of the batch", 0)
    negatives_from: Literal["uniform", "popularity"] = _setting(
        "uniform", "every item alike, or by its number of training rows"
    )
    hard_negatives: int = _setting(
        0, "how many of the negatives count, the highest scored; 0: all", 0
    )
    rating_weight: float = _setting(
        0.3, "of the error of predicted ratings in the loss, where rows have ratings", 0.0, 100.0
    )
    temperature: float = _setting(0.25, "scores are divided by it in the softmax", 1e-4, 100.0)
    logq_correction: bool = _setting(
        True, "correct scores for how often an item is a candidate (Yi et al. 2019)"
    )
    remove_accidental_hits: bool = _setting(
        True, "in_batch: a user's item is not a negative where it is in the batch again"
    )
    optimizer: Literal["adagrad", "adam"] = _setting("adam", "Keras optimiser")
    learning_rate: float = _setting(0.02, "its learning rate", 1e-7, 10.0)
    learning_rate_decay: bool = _setting(True, "to zero over the epochs, by half a cosine")
    epochs: int = _setting(50, "passes over the training rows, at the most", 1, 10_000)
    validation_share: float = _setting(
        0.1, "share of the training rows on which training is watched; 0: it is not", 0.0, 0.5
    )
    patience: int = _setting(10, "epochs without a better validation after which it ends", 1)
    refit: bool = _setting(True, "then train again on all rows, for as many epochs as were best")


@dataclass(frozen=True)
class ItemToItemConfig:
    """Similar items: the candidate tower's own vectors, or a tower trained for it."""

    trained: bool = _setting(False, "learn query vectors of items from what users did next")
    learning_rate: float = _setting(0.01, "of Adam", 1e-7, 10.0)
    batch_size: int = _setting(1024, "pairs of consecutive items in a step", 2)
    epochs: int = _setting(20, "passes over the pairs", 1, 10_000)
    temperature: float = _setting(0.1, "scores are divided by it in the softmax", 1e-4, 100.0)


@dataclass(frozen=True)
class IndexConfig:
    """The ScaNN index: what it has to find. How, is measured; or it is given."""

    target_recall: float = _setting(0.95, "share of the true 100 best that it finds", 0.0, 1.0)
    kind: Literal["auto", "brute_force", "quantized_brute_force", "hashing", "partitions"] = (
        _setting(
            "auto",
            "score every vector, every vector in 8 bits a dimension, or hash codes, of all "
            "vectors or of the nearest partitions; auto: the cheapest that finds enough",
        )
    )
    leaves: int = _setting(0, "partitions; 0: as many as are best", 0)
    dimensions_per_block: int = _setting(
        0, "dimensions that share one hash code; 0: as many as are best", 0, 64
    )
    anisotropic_threshold: float = _setting(
        0.0, "of the hash codes' training; 0: the best of some", 0.0, 1.0
    )


@dataclass(frozen=True)
class GateConfig:
    """What a new version must not fall short of, to be published."""

    max_quality_loss: float = _setting(
        0.01,
        "how far unseen_items top-100 may be below the served version's on the same rows",
        0.0,
        1.0,
    )
    users: int = _setting(5000, "users with test rows that both are asked for, at the most", 1)


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run does, beside its data."""

    seed: int = _setting(42, "of the split, the initial weights and the order of rows", 0, 2**31)
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    item_to_item: ItemToItemConfig = ItemToItemConfig()
    index: IndexConfig = IndexConfig()
    gate: GateConfig = GateConfig()
