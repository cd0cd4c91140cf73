"""Checks a stored version again, without what it was made from, in a fresh process.

    python -m trainer.probe.recheck VERSION_DIR VERSION

Prints a JSON object of measurements; ends with 1 and a reason if a model does not answer
as the contract says.
"""

import csv
import itertools
import json
import math
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving_contract import (
    ASSETS_EXTRA,
    BY_ITEM,
    BY_USER,
    ITEM_ID,
    ITEMS_CSV,
    KNOWN,
    MODEL_NAMES,
    RETRIEVAL,
    RETRIEVAL_EXACT,
    SCORE,
    SEEN_SQLITE,
    USER_ID,
    WARMUP_REQUESTS,
    K,
)
from trainer.errors import StoreError, VerificationError
from trainer.probe import fresh_process
from trainer.registry import checksums as sealing
from trainer.registry import version_record as record
from trainer.registry.store import Store

_K = 100
_ASKED = 512
_ITEMS = 64
_STANDARD_ERRORS = 3.0


def recheck(store: Store, version: int) -> dict[str, Any]:
    """Digests, then the models' answers to their own warm-up requests, then the recall.

    Returns:
        ``version``, ``files`` (how many were compared), ``requests`` (how many were
        answered), ``recall_at_100`` of the ScaNN index with its ``standard_error``, and how
        many ``queries`` it is of,
        users or, of an index of vectors, items; these are None and 0 where none is known.

    Raises:
        StoreError: there is no such version, or a file is not the one that was published.
        VerificationError: a model cannot be loaded, or does not answer as it must; or the
            recall is below the target that it had reached.
    """
    directory = store.existing(version)
    found = record.read(directory)
    files = sealing.check(directory, found)
    where = (str(directory.absolute()), str(version), str(found.items))
    printed = fresh_process.run("trainer.probe.recheck", *where, about=f"version {version}: ")
    measured: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    reached = found.checks["recall"]
    recall, target = measured["recall_at_100"], reached.values["target"]
    # Not the queries of the gate: what is below the target by chance is sound.
    chance = _STANDARD_ERRORS * measured["standard_error"]
    if reached.passed and recall is not None and recall + chance < target:
        raise VerificationError(
            f"version {version}: recall@100 of the index is {recall:.4f}, {target:g} is asked for"
        )
    return {"version": version, "files": files, **measured}


def main(directory: Path, version: int, items: int) -> dict[str, Any]:
    """What the fresh process does, of a version of so many items: measurements."""
    # Imported here: it imports TensorFlow, which the command itself does not need.
    from trainer.index import kinds

    kinds.register_ops()

    users = _some_users(directory / SEEN_SQLITE)
    some_items = _some_items(directory / ITEMS_CSV, items)
    requests = 0
    answers: dict[str, list[set[bytes]]] = {}
    for name in MODEL_NAMES:
        model = _Model(directory / name / str(version))
        requests += model.replay()
        # An index of vectors knows no users.
        by_user = BY_USER in model.signatures
        answers[name] = (
            model.candidates(BY_USER, USER_ID, users)
            if by_user
            else model.candidates(BY_ITEM, ITEM_ID, some_items)
        )
    found = [
        len(approximate & exact) / len(exact)
        for approximate, exact in zip(answers[RETRIEVAL], answers[RETRIEVAL_EXACT], strict=True)
        if exact
    ]
    recall = float(np.mean(found)) if found else None
    error = float(np.std(found)) / math.sqrt(len(found)) if found else 0.0
    return {
        **{"requests": requests, "recall_at_100": recall},
        **{"standard_error": error, "queries": len(found)},
    }


class _Model:
    """A loaded SavedModel."""

    def __init__(self, directory: Path) -> None:
        import tensorflow as tf

        self._name = directory.parent.name
        self._warmup = directory / ASSETS_EXTRA / WARMUP_REQUESTS
        # Held on to: its variables live as long as it does.
        self._loaded = tf.saved_model.load(str(directory))

    @property
    def signatures(self) -> set[str]:
        """Their names."""
        return set(self._loaded.signatures)

    def replay(self) -> int:
        """Answer every warm-up request; how many there are."""
        import tensorflow as tf
        from tensorflow_serving.apis import prediction_log_pb2

        asked = set()
        requests = 0
        for line in tf.data.TFRecordDataset(str(self._warmup)):
            log = prediction_log_pb2.PredictionLog.FromString(line.numpy())
            request = log.predict_log.request
            signature = request.model_spec.signature_name
            inputs = {key: tf.constant(tf.make_ndarray(t)) for key, t in request.inputs.items()}
            self._check(signature, inputs, self._ask(signature, inputs))
            asked.add(signature)
            requests += 1
        missing = {BY_ITEM, *self.signatures} - asked
        self._require(not missing, f"no warm-up request of {', '.join(sorted(missing))}")
        return requests

    def candidates(self, signature: str, name: str, every: list[str]) -> list[set[bytes]]:
        """The ``_K`` best of every id; none for one that is not known."""
        import tensorflow as tf

        found: list[set[bytes]] = []
        for start in range(0, len(every), 32):
            ids = every[start : start + 32]
            answer = self._ask(
                signature,
                {name: tf.constant(ids, tf.string), K: tf.fill([len(ids)], _K)},
            )
            for items, known in zip(answer[ITEM_ID], answer[KNOWN], strict=True):
                found.append({one for one in items if one} if known else set())
        return found

    def _ask(self, signature: str, inputs: dict[str, Any]) -> dict[str, NDArray[Any]]:
        self._require(signature in self.signatures, f"no signature {signature}")
        answer = self._loaded.signatures[signature](**inputs)
        return {key: value.numpy() for key, value in answer.items()}

    def _check(
        self, signature: str, inputs: dict[str, Any], answer: dict[str, NDArray[Any]]
    ) -> None:
        """Shapes, dtypes and order are those of serving_contract."""
        ks = inputs[K].numpy()
        self._require(
            set(answer) == {ITEM_ID, SCORE, KNOWN}, f"{signature}: outputs {sorted(answer)}"
        )
        items, scores, known = answer[ITEM_ID], answer[SCORE], answer[KNOWN]
        shape = (len(ks), int(ks.max(initial=0)))
        self._require(
            items.shape == scores.shape == shape and known.shape == shape[:1],
            f"{signature}: shapes {items.shape}, {scores.shape}, {known.shape} for {shape}",
        )
        self._require(
            scores.dtype == np.float32 and known.dtype == np.bool_, f"{signature}: wrong dtypes"
        )
        filler = items == b""
        self._require(
            bool((scores[filler] == -np.inf).all() and np.isfinite(scores[~filler]).all()),
            f"{signature}: a score that is not a number",
        )
        self._require(
            bool((scores[:, 1:] <= scores[:, :-1]).all()), f"{signature}: not the best first"
        )
        for row in items:
            ids = row[row != b""]
            self._require(len(set(ids)) == len(ids), f"{signature}: a duplicate candidate")

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            raise VerificationError(f"{self._name}: {what}")


def _some_users(seen: Path) -> list[str]:
    """Up to ``_ASKED`` of a seen store, from all over it."""
    connection = sqlite3.connect(f"{seen.as_uri()}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT DISTINCT user_id FROM seen ORDER BY user_id")
        users = [user for (user,) in rows]
    except sqlite3.Error as error:
        raise StoreError(f"{seen} is not a seen store: {error}") from error
    finally:
        connection.close()
    return users[:: max(1, len(users) // _ASKED)][:_ASKED]


def _some_items(path: Path, items: int) -> list[str]:
    """``_ITEMS`` of an items.csv, from all over it: an exact answer takes its time."""
    step = max(1, items // _ITEMS)
    with path.open(encoding="utf-8", newline="") as file:
        rows = itertools.islice(csv.DictReader(file), 0, None, step)
        return [row["item_id"] for row in rows][:_ITEMS]


if __name__ == "__main__":
    try:
        measurements = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except (VerificationError, StoreError) as failure:
        sys.exit(str(failure))
    sys.stdout.write(json.dumps(measurements) + "\n")
