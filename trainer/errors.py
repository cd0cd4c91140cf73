"""The errors that the trainer's commands report to users.

TrainerError
├── ConfigError            a setting is unknown or has an invalid value
├── DataError              input data cannot be used
│   └── DataUnavailable    a data set is not on this machine and cannot be downloaded
├── IndexTuningError       no index reaches the target recall
├── TuningError            a hyperparameter search ended without a finished trial
├── VerificationError      an exported model cannot be loaded or returns wrong results
└── RegistryError          a command on the versions in MODELS_DIR failed
    ├── StoreError         MODELS_DIR is malformed, or has no such version
    │   ├── DiskFull       MODELS_DIR has no space left
    │   └── StoreLocked    another command is changing MODELS_DIR
    └── GateFailed         a version did not pass its quality gate
"""


class TrainerError(Exception):
    """An error whose message tells the user what was wrong, where, and what to do."""


class ConfigError(TrainerError):
    """A setting is unknown or has an invalid value."""


class DataError(TrainerError):
    """Input data cannot be used."""


class DataUnavailable(DataError):
    """A data set is not on this machine and cannot be downloaded."""


class IndexTuningError(TrainerError):
    """No index of the allowed kinds reaches the target recall."""


class TuningError(TrainerError):
    """A hyperparameter search ended without a finished trial."""


class VerificationError(TrainerError):
    """An exported model cannot be loaded or returns wrong results."""


class RegistryError(TrainerError):
    """A command on the versions in MODELS_DIR failed."""


class StoreError(RegistryError):
    """MODELS_DIR is malformed, or has no such version."""


class DiskFull(StoreError):
    """MODELS_DIR has no space left. The served version has not changed."""


class StoreLocked(StoreError):
    """Another command is changing MODELS_DIR."""


class GateFailed(RegistryError):
    """A version did not pass its quality gate."""
