"""Keras 3 is refused with a message, whether requested or already in use."""

import os
import subprocess
import sys

import tensorflow as tf

from tools.processes import ROOT


def _python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_importing_trainer_selects_keras_2() -> None:
    assert tf.keras.Model.__module__.startswith("tf_keras."), "tests/conftest.py imports trainer"


def test_trainer_may_be_imported_after_tensorflow() -> None:
    done = _python("import tensorflow as tf, trainer; print(tf.keras.Model.__module__)")
    assert done.stdout.startswith("tf_keras."), done.stderr


def test_keras_3_in_use_is_refused() -> None:
    done = _python("import tensorflow as tf; tf.keras.layers; import trainer")
    assert done.returncode != 0
    assert "Import trainer before tensorflow" in done.stderr


def test_request_for_keras_3_is_refused() -> None:
    done = _python("import trainer", TF_USE_LEGACY_KERAS="0")
    assert done.returncode != 0
    assert "TF_USE_LEGACY_KERAS" in done.stderr
