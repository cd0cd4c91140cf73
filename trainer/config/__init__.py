"""The typed, frozen configuration of a run.

A configuration starts from a preset, can be changed by a TOML file and by ``--set``, and cannot
hold an invalid value. Versions on disk keep the configuration that they were trained with.

sections    the settings, each with a default, a range and a description
presets     configurations with a name
files       reads presets, TOML files and ``--set`` changes; writes a TOML file
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
