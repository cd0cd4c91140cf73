"""TensorFlow Recommenders needs Keras 2; TensorFlow 2.16+ brings Keras 3.

``tf.keras`` is Keras 2 (package ``tf-keras``) only if TF_USE_LEGACY_KERAS was set
before ``tf.keras`` was first touched, so this must run before any import of
TensorFlow. Importing ``trainer`` sees to it.
"""

import os
import sys

VARIABLE = "TF_USE_LEGACY_KERAS"


def require() -> None:
    """Choose Keras 2, or say why that cannot be done any more.

    Raises:
        ImportError: the environment asks for Keras 3, or it is already in use.
    """
    if os.environ.setdefault(VARIABLE, "1").lower() not in ("1", "true"):
        raise ImportError(
            f"{VARIABLE}={os.environ[VARIABLE]!r} asks for Keras 3, with which TensorFlow "
            f"Recommenders does not work. Unset it, or set it to 1."
        )
    # TensorFlow's C++ side calls a missing GPU an error: fatal messages only. Ops that
    # fail raise in Python whatever is said here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and not tensorflow.keras.Model.__module__.startswith("tf_keras"):
        raise ImportError(
            f"tf.keras is already Keras 3, with which TensorFlow Recommenders does not work. "
            f"Import trainer before tensorflow, or set {VARIABLE}=1."
        )
