"""Checks the models of a stored version without the data from which the models were exported.

The models must answer their own warm-up requests. The answers of the approximate index are compared
with those of the exact index, for a sample of users or, in a version without users, of items.
"""

import itertools
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import serving_contract as contract
from trainer.artifact import side_files
from trainer.errors import StoreError
from trainer.probe.loaded_model import Arrays, LoadedModel
from trainer.probe.protocol import Message, run_in_fresh_process

CHECK = "stored_version"

_K = 100
_MAX_USERS = 512
# Smaller than _MAX_USERS, because a version without users may have a very large catalogue.
_MAX_ITEMS = 64


def probe_stored_version(directory: Path, version: int, items: int) -> dict[str, Any]:
    """Check and measure both models of a version in a fresh process.

    Args:
        directory: the directory of the version.
        version: the number of the version.
        items: the number of items in its catalogue.

    Returns:
        ``requests``, the number of warm-up requests answered; ``recall_at_100`` of the approximate
        index with its ``standard_error``; and ``queries``, the number of queries that recall was
        measured with. Recall is None if the models know none of the version's users or items.

    Raises:
        VerificationError: a model cannot be loaded or returns wrong results.
    """
    values = {"directory": str(directory.absolute()), "version": version, "items": items}
    return dict(run_in_fresh_process(Message({"check": CHECK, **values})).values)


def answer(request: Message) -> Message:
    """Answer the request in the fresh process: check and measure both models."""
    directory, version = Path(request.values["directory"]), request.values["version"]
    items = request.values["items"]
    users = _sample_users(directory / contract.SEEN_SQLITE)
    sampled_items = _sample_items(directory / contract.ITEMS_CSV, items)
    requests = 0
    candidates: dict[str, list[set[bytes]]] = {}
    for name in contract.MODEL_NAMES:
        model = LoadedModel(directory / name / str(version), name, items)
        requests += _replay_warmup(model)
        candidates[name] = (
            _candidates(model, contract.BY_USER, contract.USER_ID, users)
            if contract.BY_USER in model.signatures
            else _candidates(model, contract.BY_ITEM, contract.ITEM_ID, sampled_items)
        )
    recalls = [
        len(approximate & exact) / len(exact)
        for approximate, exact in zip(
            candidates[contract.RETRIEVAL], candidates[contract.RETRIEVAL_EXACT], strict=True
        )
        if exact
    ]
    return Message(
        {
            "requests": requests,
            "recall_at_100": float(np.mean(recalls)) if recalls else None,
            "standard_error": float(np.std(recalls)) / math.sqrt(len(recalls)) if recalls else 0.0,
            "queries": len(recalls),
        }
    )


def _replay_warmup(model: LoadedModel) -> int:
    """Send every warm-up request and check the answers; return the number of requests."""
    signatures = set()
    requests = 0
    for signature, inputs in model.warmup_requests():
        ks = inputs.pop(contract.K)
        _check_answer(model, signature, ks, model.ask_batch(signature, inputs, ks))
        signatures.add(signature)
        requests += 1
    missing = {contract.BY_ITEM, *model.signatures} - signatures
    model.require(not missing, f"has no warm-up request for {', '.join(sorted(missing))}")
    return requests


def _check_answer(
    model: LoadedModel, signature: str, ks: NDArray[np.int32], answer: Arrays
) -> None:
    """Check the shapes, dtypes and order that ``serving_contract`` specifies for answers."""
    model.require(
        set(answer) == {contract.ITEM_ID, contract.SCORE, contract.KNOWN},
        f"{signature}: has the wrong outputs {sorted(answer)}",
    )
    items, scores, known = answer[contract.ITEM_ID], answer[contract.SCORE], answer[contract.KNOWN]
    shape = (len(ks), int(ks.max(initial=0)))
    model.require(
        items.shape == scores.shape == shape and known.shape == shape[:1],
        f"{signature}: shapes are {items.shape}, {scores.shape} and {known.shape} instead of "
        f"{shape}, {shape} and {shape[:1]}",
    )
    model.require(
        scores.dtype == np.float32 and known.dtype == np.bool_, f"{signature}: wrong dtypes"
    )
    filler = items == b""
    model.require((scores[filler] == -np.inf).all(), f"{signature}: filler has a score")
    model.require(np.isfinite(scores[~filler]).all(), f"{signature}: a score is not finite")
    is_sorted = (scores[:, 1:] <= scores[:, :-1]).all()
    model.require(is_sorted, f"{signature}: candidates are not sorted by score")
    for row in items:
        ids = row[row != b""]
        model.require(len(set(ids)) == len(ids), f"{signature}: returns an item twice")


def _candidates(
    model: LoadedModel, signature: str, input_name: str, ids: list[str]
) -> list[set[bytes]]:
    """Return the set of the 100 best items for each id, or an empty set for an unknown id."""
    if not ids:
        return []
    answer = model.ask(signature, {input_name: np.array(ids, object)}, _K)
    return [
        set(items) - {b""} if known else set()
        for items, known in zip(answer[contract.ITEM_ID], answer[contract.KNOWN], strict=True)
    ]


def _sample_users(seen_sqlite: Path) -> list[str]:
    """Return up to 512 evenly spaced user ids from the database of seen items."""
    try:
        with closing(sqlite3.connect(f"{seen_sqlite.as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT DISTINCT user_id FROM seen ORDER BY user_id")
            users = [user for (user,) in rows]
    except sqlite3.Error as error:
        raise StoreError(f"{seen_sqlite} cannot be read: {error}") from error
    return users[:: max(1, len(users) // _MAX_USERS)][:_MAX_USERS]


def _sample_items(items_csv: Path, items: int) -> list[str]:
    """Return up to 64 evenly spaced item ids from a catalogue of ``items`` items."""
    step = max(1, items // _MAX_ITEMS)
    return list(itertools.islice(side_files.read_item_ids(items_csv), 0, step * _MAX_ITEMS, step))
