"""What every signature of both models is asked, and what is measured."""

import gc
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.feather
import tensorflow as tf

from serving_contract import (
    ASSETS_EXTRA,
    BY_HISTORY,
    BY_ITEM,
    BY_USER,
    BY_USER_AND_HISTORY,
    BY_VECTOR,
    HISTORY,
    ITEM_ID,
    KNOWN,
    RETRIEVAL,
    RETRIEVAL_EXACT,
    SCORE,
    SERVING_DEFAULT,
    USER_ID,
    VECTOR,
    WARMUP_REQUESTS,
)
from trainer.probe.loaded_model import Model
from trainer.probe.questions import IDS

_UNKNOWN_ID = "\x00 nobody"


def check(staging: Path, questions: Path) -> dict[str, Any]:
    """Check both models in ``staging``; measurements by model name."""
    truth: dict[str, Any] = {
        file.stem: np.load(file, mmap_mode="r") for file in questions.glob("*.npy")
    }
    truth[IDS] = pyarrow.feather.read_table(str(questions / IDS))[IDS].combine_chunks()
    exact = Model(staging / RETRIEVAL_EXACT, truth, exact=True)
    _check(exact)
    # Of what the other model has to find, the exact one says how good the last has to be.
    ks = exact.recall_ks
    best = exact.by_vector(max(ks.values()))[SCORE]
    similar = exact.similar()[SCORE]
    measured = {RETRIEVAL_EXACT: exact.times()}
    del exact
    gc.collect()  # One model in memory at a time.
    model = Model(staging / RETRIEVAL, truth, exact=False)
    _check(model)
    measured[RETRIEVAL] = model.times()
    shares = {
        f"recall_at_{name}": model.recall(truth["queries"], model.by_vector(k), best[:, k - 1])
        for name, k in ks.items()
    }
    if similar.shape[1]:
        shares["by_item_recall_at_100"] = model.recall(
            truth["item_queries"], model.similar(), similar[:, -1]
        )
    found = {name: float(share.mean()) for name, share in shares.items()}
    share = shares["recall_at_100"]
    error = {"recall_at_100_error": float(share.std() / math.sqrt(len(share)))}
    count = {"queries": len(truth["queries"])}
    measured[RETRIEVAL] |= found | error | count
    measured[RETRIEVAL_EXACT] |= dict.fromkeys(found, 1.0) | count
    return measured


def _check(model: "Model") -> None:
    """Ask one model everything."""
    some = slice(model.checked)
    queries, items = model.truth["queries"][some], model.truth["items"][some]
    answer = model.ask(BY_VECTOR, {VECTOR: queries})
    model.require(bool(answer[KNOWN].all()), "by_vector: a vector is not known")
    model.check_scores(BY_VECTOR, answer, queries)
    similar = model.ask(BY_ITEM, {ITEM_ID: model.names(items)})
    model.require(bool(similar[KNOWN].all()), "by_item: a known item is not known")
    itself = model.rows(similar[ITEM_ID]) == items[:, None]
    model.require(not itself.any(), "by_item returns the item itself")
    model.check_scores(BY_ITEM, similar, model.truth["item_queries"][some], without=items)
    unknown = model.ask(BY_ITEM, {ITEM_ID: np.array([_UNKNOWN_ID])})
    model.require(
        not unknown[KNOWN].any() and bool((unknown[ITEM_ID] == b"").all()),
        "an unknown item is answered for",
    )
    if "user_ids" in model.truth:
        _check_users(model, some)
    warmup = model.directory / ASSETS_EXTRA / WARMUP_REQUESTS
    records = sum(1 for _ in tf.data.TFRecordDataset(str(warmup)))
    model.require(records > 0, "no warm-up requests")


def _check_users(model: "Model", some: slice) -> None:
    truth = model.truth
    users, history = truth["user_ids"][some], truth["history"][some]
    answer = model.ask(BY_USER, {USER_ID: users})
    model.require(bool(answer[KNOWN].all()), "a known user is not known")
    model.check_scores(BY_USER, answer, truth["queries"][some])
    default = model.ask(SERVING_DEFAULT, {USER_ID: users})
    model.require(
        np.array_equal(default[ITEM_ID], answer[ITEM_ID]), "serving_default is not by_user"
    )
    joined = model.ask(BY_USER_AND_HISTORY, {USER_ID: users, HISTORY: history})
    model.check_scores(BY_USER_AND_HISTORY, joined, truth["joined_queries"][some])
    recent = model.ask(BY_HISTORY, {HISTORY: history})
    if truth["uses_history"]:
        model.check_scores(BY_HISTORY, recent, truth["history_queries"][some])
    else:
        model.check_popular(BY_HISTORY, recent)
    nobody = np.array([_UNKNOWN_ID])
    model.check_popular(BY_USER, model.ask(BY_USER, {USER_ID: nobody}))
    model.check_popular(BY_HISTORY, model.ask(BY_HISTORY, {HISTORY: nobody[:, None]}))
