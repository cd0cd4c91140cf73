"""The sections of a configuration. An object with an invalid value cannot be constructed."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from config_fields import Validated, setting


def _share(default: float, help: str) -> Any:  # noqa: A002
    return setting(default, help, low=0.0, high=1.0)


class _Section(Validated):
    """Base class of the sections. Error messages name a field as ``section.field``."""

    _section: ClassVar[str]

    def __init_subclass__(cls, section: str) -> None:
        cls._section = section

    @classmethod
    def display_name(cls, field_name: str) -> str:
        """Return the name that ``--set`` and a TOML file use for a field."""
        return f"{cls._section}.{field_name}"


@dataclass(frozen=True)
class SplitConfig(_Section, section="split"):
    """Settings for splitting the rows into training and test rows."""

    kind: Literal["random", "temporal", "temporal_per_user"] = setting(
        "random",
        "Rows that are held out: random rows, all rows after a point in time (temporal), or the "
        "newest rows of every user (temporal_per_user).",
    )
    test_share: float = setting(0.2, "Share of the rows that are held out.", low=0.001, high=0.9)


@dataclass(frozen=True)
class ModelConfig(_Section, section="model"):
    """Settings of the two towers."""

    embedding_dim: int = setting(
        64, "Number of dimensions of the embeddings that both towers compute.", low=1, high=4096
    )
    normalize: bool = setting(
        True, "Scale every embedding to length 1, so that scores are cosine similarities."
    )
    history_length: int = setting(
        500,
        "Maximum number of a user's newest items in the query; 0 leaves the history out.",
        low=0,
        high=100_000,
    )
    history_exponent: float = _share(
        0.5,
        "The weighted sum of the history is divided by its total weight to this power: 0 gives "
        "the sum, 1 the mean.",
    )
    user_id: bool = setting(
        False, "Learn an embedding for every user id, in addition to the history."
    )
    user_id_dropout: float = _share(
        0.0, "Share of the users whose id embedding is left out of a training step."
    )
    user_features: tuple[str, ...] = setting(
        (),
        "User columns to use as features, each NAME or NAME:KIND, where KIND is category, tags, "
        "number or text; auto stands for all columns.",
    )
    item_features: tuple[str, ...] = setting(
        ("auto",), "Item columns to use as features, in the same format as user_features."
    )
    item_id_dropout: float = _share(
        0.1,
        "Share of the items whose id embedding is left out of a training step, so that the model "
        "learns to represent items by their features alone.",
    )
    new_item_scale: float = _share(
        0.85,
        "Factor for the embeddings of items without training rows; below 1, these items are "
        "recommended less often.",
    )


@dataclass(frozen=True)
class TrainingConfig(_Section, section="training"):
    """Settings of the loss, the optimizer and the training loop."""

    objective: Literal["auto", "full_softmax", "sampled_softmax", "in_batch"] = setting(
        "auto",
        "Candidates of the softmax: the whole catalogue, a sample of it, or the other rows of the "
        "batch. auto chooses the whole catalogue up to 20,000 items and a sample above that.",
    )
    targets: Literal["auto", "random", "future"] = setting(
        "auto",
        "Items to predict from the rest of a user's history: random items, or later items from "
        "earlier items (future). auto follows split.kind.",
    )
    kept_weight: float = _share(
        0.0,
        "Loss weight of targets in their own query; not used with in_batch or future targets.",
    )
    batch_size: int = setting(
        0,
        "Number of users in a training step, or of rows with the in_batch objective. 0 chooses "
        "128 to 1,024 users, depending on the size of the data, or 4,096 rows.",
        low=0,
    )
    negatives: int = setting(
        4096,
        "Number of items drawn as negatives, in addition to the other targets of the batch.",
        low=0,
    )
    negatives_from: Literal["uniform", "popularity"] = setting(
        "uniform",
        "Distribution that negatives are drawn from: all trained items alike, or in proportion "
        "to their numbers of training rows.",
    )
    hard_negatives: int = setting(
        0, "Number of highest-scored negatives that enter the loss; 0 uses all negatives.", low=0
    )
    rating_weight: float = setting(
        0.3,
        "Loss weight of the error of predicted ratings, if the rows have ratings.",
        low=0.0,
        high=100.0,
    )
    temperature: float = setting(
        0.25, "Number by which scores are divided in the softmax.", low=1e-4, high=100.0
    )
    logq_correction: bool = setting(
        True, "Correct scores for how often an item is a candidate (Yi et al. 2019)."
    )
    remove_accidental_hits: bool = setting(
        True, "With in_batch, ignore negatives that are the same item as the query's target."
    )
    optimizer: Literal["adagrad", "adam"] = setting("adam", "Keras optimizer to train with.")
    learning_rate: float = setting(
        0.02, "Learning rate at the start of training.", low=1e-7, high=10.0
    )
    learning_rate_decay: bool = setting(
        True, "Decay the learning rate to zero over all epochs along half a cosine."
    )
    epochs: int = setting(
        50, "Maximum number of passes over the training rows.", low=1, high=10_000
    )
    validation_share: float = setting(
        0.1,
        "Share of the training rows held out for early stopping; 0 turns early stopping off.",
        low=0.0,
        high=0.5,
    )
    patience: int = setting(
        10, "Number of epochs without a better validation result after which training ends.", low=1
    )
    refit: bool = setting(
        True, "After early stopping, train again on all rows for the best number of epochs."
    )


@dataclass(frozen=True)
class ItemToItemConfig(_Section, section="item_to_item"):
    """Settings of the query embeddings for similar items."""

    trained: bool = setting(
        False,
        "Learn query embeddings of items from consecutive interactions, instead of using the "
        "candidate embeddings.",
    )
    learning_rate: float = setting(
        0.01, "Learning rate of the Adam optimizer.", low=1e-7, high=10.0
    )
    batch_size: int = setting(
        1024, "Number of pairs of consecutive items in a training step.", low=2
    )
    epochs: int = setting(20, "Number of passes over the pairs.", low=1, high=10_000)
    temperature: float = setting(
        0.1, "Number by which scores are divided in the softmax.", low=1e-4, high=100.0
    )


@dataclass(frozen=True)
class ScannConfig(_Section, section="index"):
    """Settings of the index kinds that use ScaNN. Values of 0 are tuned by measurement."""

    leaves: int = setting(
        0, "Number of partitions (leaves in ScaNN); 0 tries several and takes the fastest.", low=0
    )
    dimensions_per_block: int = setting(
        0,
        "Number of dimensions that share a hash code; 0 tries several and takes the fastest.",
        low=0,
        high=64,
    )
    anisotropic_threshold: float = _share(
        0.0,
        "Threshold of the anisotropic loss that hash codes are trained with; 0 tries several and "
        "takes the best.",
    )


@dataclass(frozen=True)
class IndexConfig(ScannConfig, section="index"):
    """The recall target, the kind of the index, and the settings of each kind.

    Each base class holds the settings of some kinds. A builder reads only those of its own kind.
    """

    target_recall: float = _share(
        0.95, "Share of the true 100 best items that the index must find."
    )
    kind: Literal["auto", "brute_force", "quantized_brute_force", "hashing", "partitions"] = (
        setting(
            "auto",
            "Values that a search scores: all vectors, all vectors with 8 bits per dimension, hash "
            "codes of all vectors, or hash codes of the nearest partitions. auto takes the "
            "cheapest kind that reaches target_recall.",
        )
    )


@dataclass(frozen=True)
class GateConfig(_Section, section="gate"):
    """Settings of the quality gate that a new version must pass to be served."""

    max_quality_loss: float = _share(
        0.01,
        "Maximum drop in unseen_items.top_100 below the served version, on the same rows.",
    )
    users: int = setting(
        5000, "Maximum number of users with test rows that both versions are evaluated on.", low=1
    )


@dataclass(frozen=True)
class Config(Validated):
    """All settings of a run."""

    seed: int = setting(
        42,
        "Seed of the split, the initial weights and the order of the training rows.",
        low=0,
        high=2**31,
    )
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    item_to_item: ItemToItemConfig = ItemToItemConfig()
    index: IndexConfig = IndexConfig()
    gate: GateConfig = GateConfig()
