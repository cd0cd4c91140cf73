"""Loads what was exported, in a fresh process, and compares its answers with NumPy's.

A process writes the questions (:mod:`trainer.probe.questions`), another loads the models
(:mod:`trainer.probe.loaded_model`) and checks their answers (:mod:`trainer.probe.checks`).
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.artifact.servable import VectorServable
from trainer.probe import fresh_process, questions

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
        ``by_item_recall_at_100`` (of all where there are fewer), against the exact answer, with
        ``recall_at_100_error``, its standard error;
        ``milliseconds`` of one query and ``queries_per_second_of_32``, through the exported
        signature; how many ``queries``.

    Raises:
        VerificationError: with the reason.
    """
    with tempfile.TemporaryDirectory(dir=staging, prefix=".questions-") as scratch:
        questions.write(servable, Path(scratch), queries)
        printed = fresh_process.run("trainer.probe", str(staging), scratch)
    measured: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return measured
