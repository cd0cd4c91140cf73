"""Loads what was exported, in a fresh process, and compares its answers with numpy.

    python -m trainer.verify STAGING_DIR EXPECTED.npz

Prints a JSON object of measurements for each model; ends with 1 and a reason if a
model answers wrongly.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving_contract import (
    ASSETS_EXTRA,
    BY_ITEM,
    BY_USER,
    ITEM_ID,
    KNOWN,
    RETRIEVAL,
    RETRIEVAL_EXACT,
    SCORE,
    SERVING_DEFAULT,
    USER_ID,
    WARMUP_REQUESTS,
    K,
)
from trainer.export import Servable
from trainer.towers import embed

_K = 100
_QUERIES = 512
_UNKNOWN_ID = "\x00 nobody"


class VerificationError(Exception):
    """An exported model does not answer as it must."""


def verify(staging: Path, servable: Servable, user_ids: NDArray[np.object_]) -> dict[str, Any]:
    """Check ``staging/retrieval`` and ``staging/retrieval_exact`` in a fresh process.

    Args:
        staging: the directory that holds both.
        servable: what was exported.
        user_ids: known users, str objects; up to 512 of them are asked for.

    Returns:
        by model name: ``recall_at_100`` against the exact answer, of users.

    Raises:
        VerificationError: with the reason.
    """
    step = max(1, len(user_ids) // _QUERIES)
    asked = user_ids[::step][:_QUERIES]
    with tempfile.TemporaryDirectory() as scratch:
        expected = Path(scratch) / "expected.npz"
        np.savez(
            expected,
            user_ids=asked.astype(str),
            queries=embed(servable.query_tower, asked),
            vectors=servable.candidate_vectors,
            item_ids=servable.item_ids.astype(str),
            popularity=servable.popularity,
        )
        done = subprocess.run(
            [sys.executable, "-m", "trainer.verify", str(staging), str(expected)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise VerificationError(lines[-1])
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def main(staging: Path, expected: Path) -> dict[str, Any]:
    """What the fresh process does: measurements by model name."""
    with np.load(expected) as file:
        truth = dict(file)
    exact = _check(staging / RETRIEVAL_EXACT, truth, exact=True)
    scann = _check(staging / RETRIEVAL, truth, exact=False)
    found = [
        len(np.intersect1d(a[a != b""], b[b != b""])) / int(np.count_nonzero(b != b""))
        for a, b in zip(scann, exact, strict=True)
    ]
    return {
        RETRIEVAL: {"recall_at_100": float(np.mean(found)), "queries": len(found)},
        RETRIEVAL_EXACT: {"recall_at_100": 1.0, "queries": len(found)},
    }


def _check(directory: Path, truth: dict[str, Any], *, exact: bool) -> NDArray[np.bytes_]:
    """Ask one model everything; the item ids it gives the users, bytes [B, 100]."""
    import scann  # noqa: F401  (registers the ops)

    signatures = tf.saved_model.load(str(directory)).signatures
    name, users, items = directory.name, truth["user_ids"], truth["item_ids"]

    def ask(signature: str, argument: str, ids: Any) -> dict[str, NDArray[Any]]:
        answer = signatures[signature](
            **{argument: tf.constant(list(ids)), K: tf.fill([len(ids)], _K)}
        )
        return {key: value.numpy() for key, value in answer.items()}

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise VerificationError(f"{name}: {what}")

    width = min(_K, len(items))
    answer = ask(BY_USER, USER_ID, users)
    scores = truth["queries"] @ truth["vectors"].T
    rows = _rows(answer[ITEM_ID], items)
    require(bool(answer[KNOWN].all()), "a known user is not known")
    given = np.where(rows >= 0, np.take_along_axis(scores, np.maximum(rows, 0), 1), -np.inf)
    require(np.allclose(given, answer[SCORE], rtol=1e-3, atol=1e-3), "scores differ from numpy's")
    require(all(len(set(r[r >= 0])) == (r >= 0).sum() for r in rows), "a duplicate candidate")
    if exact:
        best = -np.sort(-scores, axis=1)[:, :width]
        require(np.allclose(best, given[:, :width], rtol=1e-4, atol=1e-4), "not the true top k")
    default = ask(SERVING_DEFAULT, USER_ID, users)
    require(np.array_equal(default[ITEM_ID], answer[ITEM_ID]), "serving_default is not by_user")

    unknown = ask(BY_USER, USER_ID, [_UNKNOWN_ID])
    popular = -np.sort(-truth["popularity"])[:width]
    require(not unknown[KNOWN][0], "an unknown user is known")
    require(np.array_equal(unknown[SCORE][0, :width], popular), "unknown users: not by popularity")

    some = items[:: max(1, len(items) // 64)][:64]
    similar = ask(BY_ITEM, ITEM_ID, [*some, _UNKNOWN_ID])
    require(bool(similar[KNOWN][:-1].all() and not similar[KNOWN][-1]), "by_item: known")
    itself = similar[ITEM_ID][:-1] == np.char.encode(some, "utf-8")[:, None]
    require(not itself.any(), "by_item returns the item itself")
    require(bool((similar[ITEM_ID][-1] == b"").all()), "by_item answers for an unknown item")
    warmup = directory / ASSETS_EXTRA / WARMUP_REQUESTS
    require(sum(1 for _ in tf.data.TFRecordDataset(str(warmup))) > 0, "no warm-up requests")
    result: NDArray[np.bytes_] = answer[ITEM_ID]
    return result


def _rows(ids: NDArray[np.object_], item_ids: NDArray[np.str_]) -> NDArray[np.int64]:
    """Positions of ids, bytes [B, K], in the catalogue; -1 for filler."""
    row_of = {item.encode("utf-8"): row for row, item in enumerate(item_ids)}
    row_of[b""] = -1
    return np.array([[row_of[one] for one in line] for line in ids], np.int64)


if __name__ == "__main__":
    try:
        measurements = main(Path(sys.argv[1]), Path(sys.argv[2]))
    except VerificationError as failure:
        sys.exit(str(failure))
    sys.stdout.write(json.dumps(measurements) + "\n")
