"""The typed, frozen configuration of a run.

A configuration starts from a preset, can be changed by a TOML file and by ``--set``, and cannot
hold an invalid value. A version on disk keeps the configuration that it was trained with.

sections    the settings, each with a default, a range and a description
presets     named configurations
files       reads presets, TOML files and ``--set`` changes; writes TOML files
"""

from trainer.config.files import as_dict, change, from_dict, load, write
from trainer.config.presets import PRESETS
from trainer.config.sections import (
    Config,
    GateConfig,
    IndexConfig,
    ItemToItemConfig,
    ModelConfig,
    ScannConfig,
    SplitConfig,
    TrainingConfig,
)

__all__ = [
    "PRESETS",
    "Config",
    "GateConfig",
    "IndexConfig",
    "ItemToItemConfig",
    "ModelConfig",
    "ScannConfig",
    "SplitConfig",
    "TrainingConfig",
    "as_dict",
    "change",
    "from_dict",
    "load",
    "write",
]
