"""Writes one SavedModel: signatures, warm-up requests and manifest.json."""

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
        servable: everything that the model answers from, except for the index.
        index: built over ``servable.candidate_vectors``.
        directory: where to write; it must not exist yet.
        name: name of the model, as in requests to the model server.
        manifest: entries of manifest.json besides ``model`` and ``index``, which are added.
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
