"""Connects the registry's publication with the build, the checks and the report."""

from rich.console import Console

from trainer import report
from trainer.pipelines import build
from trainer.probe.exported_models import check_exported_models
from trainer.registry.publication import Publication, Steps
from trainer.registry.store import Store


def publication(store: Store, console: Console) -> Publication:
    """Return the publication that every pipeline uses."""
    steps = Steps(
        build_models=build.build,
        verify_models=check_exported_models,
        write_report=report.write,
        show_report=report.show,
    )
    return Publication(store, console, steps)
