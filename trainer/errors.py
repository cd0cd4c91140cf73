"""What can be wrong with a command on versions.

LifecycleError
├── StoreError      MODELS_DIR is not as it must be, or has no such version
│   ├── DiskFull    it has no room; what was served is still served
│   └── Locked      another command is at work in it
├── Refused         the version did not pass its gate
└── VerificationError   an exported model does not answer as it must
"""


class LifecycleError(Exception):
    """The message is one line that says what to do."""


class StoreError(LifecycleError):
    """MODELS_DIR is not as it must be, or has no such version."""


class DiskFull(StoreError):
    """There is no room in MODELS_DIR."""


class Locked(StoreError):
    """Another command holds MODELS_DIR."""


class Refused(LifecycleError):
    """A version did not pass its gate."""


class VerificationError(LifecycleError):
    """An exported model does not answer as it must."""
