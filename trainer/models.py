"""Both models of a version: the same answers out of an exact and a ScaNN index."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serving_contract import RETRIEVAL, RETRIEVAL_EXACT
from trainer import export
from trainer.config import IndexConfig
from trainer.index.base import Index
from trainer.index.exact import ExactIndex


def export_both(
    servable: export.Servable,
    settings: IndexConfig,
    directory: Path,
    manifest: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Write ``retrieval`` and ``retrieval_exact`` into ``directory``.

    Args:
        servable: what answers.
        settings: of the ScaNN index.
        directory: has neither of them yet.
        manifest: for the manifest.json of both.

    Returns:
        the parameters of each index, by model name.
    """
    # Only here: without ScaNN's wheel the rest of the trainer can still be imported.
    from trainer.index.scann import ScannIndex

    vectors = servable.candidate_vectors
    kinds: dict[str, Callable[[], Index]] = {
        RETRIEVAL_EXACT: lambda: ExactIndex(vectors),
        RETRIEVAL: lambda: ScannIndex(vectors, settings),
    }
    parameters = {}
    # One index in memory at a time.
    for name, build in kinds.items():
        index = build()
        parameters[name] = index.parameters()
        export.export(servable, index, directory / name, name, manifest)
    return parameters
