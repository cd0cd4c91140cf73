"""Stored versions are checked by their own warm-up requests, users and items."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.probe.small_models import save_both
from trainer.artifact import side_files
from trainer.artifact.servable import VectorServable
from trainer.cli.main import main
from trainer.errors import VerificationError
from trainer.probe.protocol import Message
from trainer.probe.stored_version import answer
from trainer.registry import reevaluation
from trainer.registry.store import Store
from trainer.registry.version_record import CheckResult, VersionRecord

ITEMS = 300


@pytest.fixture
def store(models_dir: Path, tmp_path: Path) -> Store:
    """A copy of the trained version 1."""
    shutil.copytree(models_dir, tmp_path / "stored", symlinks=True)
    return Store(tmp_path / "stored")


def _check(directory: Path) -> dict[str, Any]:
    """Check in this process, which already has TensorFlow."""
    return dict(answer(Message({"directory": str(directory), "version": 1, "items": ITEMS})).values)


@pytest.mark.usefixtures("fresh_processes")
def test_verify_command_reports_a_sound_version_and_names_a_changed_file(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--models-dir", str(store.models_dir)]) == 0
    output = capsys.readouterr().out
    assert "Version 1 is sound" in output
    assert "36 requests answered, recall@100 1.0000 of 512 queries" in output
    metadata = store.directory(1) / "retrieval" / "1" / "fingerprint.pb"
    metadata.write_bytes(metadata.read_bytes() + b"x")
    assert main(["verify", "1", "--models-dir", str(store.models_dir)]) == 1
    assert "fingerprint.pb is not the file that was published" in capsys.readouterr().err


def _remove_warmup_requests(directory: Path) -> None:
    path = directory / "retrieval" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    first = next(iter(tf.data.TFRecordDataset(str(path)))).numpy()
    with tf.io.TFRecordWriter(str(path)) as records:
        records.write(first)


def _replace_model(directory: Path) -> None:
    module = tf.Module()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="item_id"),
            tf.TensorSpec([None], tf.int32, name="k"),
        ]
    )
    def by_item(item_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"item_id": item_id[:, None], "score": tf.cast(k, tf.float32), "known": k > 0}

    old = directory / "retrieval_exact" / "1"
    extra = directory / "extra"
    (old / "assets.extra").rename(extra)
    shutil.rmtree(old)
    tf.saved_model.save(module, str(old), signatures={"by_item": by_item})
    extra.rename(old / "assets.extra")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_remove_warmup_requests, "retrieval: has no warm-up request for by_history"),
        (_replace_model, "retrieval_exact: by_item: shapes are"),
    ],
)
def test_unsound_model_is_found(store: Store, change: Callable[[Path], None], message: str) -> None:
    change(store.directory(1))
    with pytest.raises(VerificationError, match=message):
        _check(store.directory(1))


def test_version_without_users_is_queried_with_items(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)
    item_ids = np.array([f"i{n}" for n in range(ITEMS)], "S")
    servable = VectorServable(candidate_vectors=vectors, item_ids=item_ids)
    side_files.write_ids(tmp_path, item_ids)
    save_both(servable, tmp_path, "1")
    expected = {"requests": 12, "recall_at_100": 1.0, "standard_error": 0.0, "queries": 64}
    assert _check(tmp_path) == expected


@pytest.mark.parametrize(
    ("recall", "error", "passed", "sound"),
    [
        (0.95, 0.0, True, True),
        (0.94, 0.004, True, True),
        (0.94, 0.003, True, False),
        (0.94, 0.0, False, True),
        (None, 0.0, True, True),
    ],
)
def test_recall_must_reach_the_target_that_it_once_reached(
    recall: float | None,
    error: float,
    passed: bool,
    sound: bool,
) -> None:
    record = VersionRecord(
        *(1, "", "run", "", ITEMS, None, 1.0),
        {"recall": CheckResult(passed, "", {"target": 0.95})},
        None,
    )
    measured = {"requests": 1, "recall_at_100": recall, "standard_error": error, "queries": 9}
    problem = reevaluation.recall_problem(record, measured)
    assert (problem is None) is sound
