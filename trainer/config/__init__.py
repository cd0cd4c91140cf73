"""One typed, frozen configuration of a run."""

from trainer.config.loading import ConfigError, as_dict, change, from_dict, load, preset_of
from trainer.config.presets import PRESETS
from trainer.config.sections import (
    Config,
    GateConfig,
    IndexConfig,
    ItemToItemConfig,
    ModelConfig,
    SplitConfig,
    TrainingConfig,
)
from trainer.config.writing import write

__all__ = [
    "PRESETS",
    "Config",
    "ConfigError",
    "GateConfig",
    "IndexConfig",
    "ItemToItemConfig",
    "ModelConfig",
    "SplitConfig",
    "TrainingConfig",
    "as_dict",
    "change",
    "from_dict",
    "load",
    "preset_of",
    "write",
]
