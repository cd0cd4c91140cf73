"""Writes a SavedModel with its signatures, warm-up requests and manifest.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from serving_contract import ASSETS_EXTRA, MANIFEST_JSON
from trainer.artifact import warmup
from trainer.artifact.servable import VectorServable
from trainer.index.base import Index


def save(
    servable: VectorServable, index: Index, directory: Path, name: str, manifest: Mapping[str, Any]
) -> None:
    """Write a SavedModel that TensorFlow 2.11 and later can load.

    Args:
        servable: the data from which the model answers requests.
        index: an index of ``servable.candidate_vectors``.
        directory: the directory to create.
        name: the model name in requests.
        manifest: the entries of manifest.json except for ``model`` and ``index``.
    """
    module = servable.module(index)
    tf.saved_model.save(
        module,
        str(directory),
        signatures=module.signatures(),
        options=tf.saved_model.SaveOptions(namespace_whitelist=list(index.op_namespaces)),
    )
    extra = directory / ASSETS_EXTRA
    extra.mkdir()
    warmup.write(directory, name, servable.examples())
    entries = {**manifest, "model": name, "index": index.description()}
    (extra / MANIFEST_JSON).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
