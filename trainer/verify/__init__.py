"""Loads what was exported, in a fresh process, and compares its answers with NumPy's.

A process writes the questions (:mod:`trainer.verify.questions`), another loads the models
(:mod:`trainer.verify.answers`) and checks their answers (:mod:`trainer.verify.checks`).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.export import VectorServable
from trainer.lifecycle.errors import VerificationError
from trainer.verify import questions

__all__ = ["verify"]


def verify(
    staging: Path, servable: VectorServable, queries: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """Check ``staging/retrieval`` and ``staging/retrieval_exact`` in a fresh process.

    Args:
        staging: the directory that holds both.
        servable: what was exported.
        queries: float32 [M, D], for ``by_vector``, of which up to 512 are asked; without them
            the query vectors of known users, or of items.

    Returns:
        by model name: ``recall_at_10``, ``_100`` and ``_1000`` of the queries and
        ``by_item_recall_at_100`` (of all where there are fewer), against the exact answer;
        ``milliseconds`` of one query and ``queries_per_second_of_32``, through the exported
        signature; how many ``queries``.

    Raises:
        VerificationError: with the reason.
    """
    with tempfile.TemporaryDirectory(dir=staging, prefix=".questions-") as scratch:
        questions.write(servable, Path(scratch), queries)
        done = subprocess.run(
            [sys.executable, "-m", "trainer.verify", str(staging), scratch],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        if done.returncode < 0:
            raise VerificationError(
                f"the process that verifies was ended by signal {-done.returncode}; "
                f"for want of memory?"
            )
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise VerificationError(lines[-1])
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured
