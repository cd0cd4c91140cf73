"""The table of index kinds, which are the values of the setting ``index.kind``."""

import importlib
from collections.abc import Callable, Mapping

from trainer.config import IndexConfig
from trainer.index.base import IndexBuilder


def _scann(config: IndexConfig) -> IndexBuilder:
    # Imported only when used, because ScaNN has no wheels for some systems.
    from trainer.index.scann.index import ScannBuilder

    return ScannBuilder(config.kind, config)


_BUILDERS: Mapping[str, Callable[[IndexConfig], IndexBuilder]] = dict.fromkeys(
    ("auto", "brute_force", "quantized_brute_force", "hashing", "partitions"), _scann
)

# Importing one of these packages registers the custom ops of an index kind with TensorFlow.
_OP_LIBRARIES = ("scann",)


def builder(config: IndexConfig) -> IndexBuilder:
    """Return a builder for the index kind ``config.kind``, with the settings in ``config``.

    Raises:
        ImportError: a library that the kind needs is not installed.
    """
    return _BUILDERS[config.kind](config)


def register_ops() -> None:
    """Register the custom ops of all index kinds, so that any exported model can be loaded.

    Raises:
        ImportError: a library is not installed.
    """
    for library in _OP_LIBRARIES:
        importlib.import_module(library)
