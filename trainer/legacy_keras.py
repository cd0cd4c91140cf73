"""Selects Keras 2, which TensorFlow Recommenders needs; TensorFlow 2.16 and later use Keras 3.

``tf.keras`` is Keras 2 (package ``tf-keras``) only if TF_USE_LEGACY_KERAS was set before
``tf.keras`` was first used. Importing ``trainer`` calls :func:`require` before TensorFlow is
imported.
"""

import os
import sys

VARIABLE = "TF_USE_LEGACY_KERAS"


def require() -> None:
    """Select Keras 2 and silence TensorFlow's log.

    Raises:
        ImportError: the environment selects Keras 3, or Keras 3 is already in use.
    """
    if os.environ.setdefault(VARIABLE, "1").lower() not in ("1", "true"):
        raise ImportError(
            f"{VARIABLE}={os.environ[VARIABLE]!r} selects Keras 3, which TensorFlow "
            f"Recommenders does not support. Unset it, or set it to 1."
        )
    # TensorFlow logs a missing GPU as an error. Failed operations raise Python exceptions
    # at every log level.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and not tensorflow.keras.Model.__module__.startswith("tf_keras"):
        raise ImportError(
            f"tf.keras is already Keras 3, which TensorFlow Recommenders does not support. "
            f"Import trainer before tensorflow, or set {VARIABLE}=1."
        )
