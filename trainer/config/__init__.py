"""One typed, frozen configuration of a run."""

from trainer.config.loading import ConfigError, as_dict, load
from trainer.config.presets import PRESETS
from trainer.config.sections import (
    Config,
    IndexConfig,
    ItemToItemConfig,
    ModelConfig,
    SplitConfig,
    TrainingConfig,
)

__all__ = [
    "PRESETS",
    "Config",
    "ConfigError",
    "IndexConfig",
    "ItemToItemConfig",
    "ModelConfig",
    "SplitConfig",
    "TrainingConfig",
    "as_dict",
    "load",
]
