"""`run` writes everything that a version contains."""

import csv
import json
import sqlite3
from pathlib import Path

import numpy as np
import tensorflow as tf

from serving_contract import MODEL_NAMES as MODELS
from trainer import config, report
from trainer.data import split, synthetic


def test_run_writes_metrics_manifests_titles_and_seen_items(models_dir: Path) -> None:
    metrics = json.loads((models_dir / "reports" / "1" / "metrics.json").read_text())
    assert set(metrics["dataset"]) == {"name", "users", "items", "train", "test", "split"}
    assert list(metrics["baselines"]) == ["popularity", "item-kNN", "EASE", "iALS"]
    for quality in (metrics["test"], *metrics["baselines"].values()):
        assert set(quality["per_user"]) == {
            *("recall_at_10", "recall_at_100", "ndcg_at_10", "ndcg_at_100")
        }
        for definition in ("all_items", "unseen_items"):
            assert set(quality[definition]) == {"top_1", "top_5", "top_10", "top_50", "top_100"}
    assert metrics["index"]["retrieval"]["recall_at_100"] > 0.99
    assert metrics["train_seconds"] > 0
    assert metrics["version"] == 1
    assert len(metrics["learning_curve"]["loss"]) == 2
    page = (models_dir / "reports" / "1" / "report.html").read_text(encoding="utf-8")
    assert page == report.html(metrics), "the page can be made again from metrics.json"
    for model in MODELS:
        extra = models_dir / model / "1" / "assets.extra"
        manifest = json.loads((extra / "manifest.json").read_text())
        assert manifest["versions"]["tensorflow"].startswith("2.20")
        assert manifest["index"]["kind"]
    assert not list(models_dir.glob(".staging*"))
    config_text = (models_dir / "models.config").read_text()
    assert 'base_path: "/models/retrieval_exact"' in config_text
    with (models_dir / "items.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["item_id", "title"]
    seen = sqlite3.connect(models_dir / "seen.sqlite")
    assert seen.execute("SELECT count(*) FROM seen").fetchone()[0] > 90_000
    seen.close()


def test_popularity_counts_training_rows_only(models_dir: Path) -> None:
    train = split.split(synthetic.load().interactions, "random", 0.2, config.Config().seed).train
    loaded = tf.saved_model.load(str(models_dir / "retrieval_exact" / "1"))
    answer = loaded.signatures["by_user"](user_id=tf.constant(["nobody"]), k=tf.constant([50]))
    np.testing.assert_array_equal(
        answer["score"].numpy()[0], np.sort(np.bincount(train.items))[::-1][:50]
    )
