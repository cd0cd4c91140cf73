"""Every configurable kind has a builder, and only the ScaNN kinds need ScaNN."""

import subprocess
import sys
from typing import Any, get_args, get_type_hints

import pytest

from tools.processes import ROOT
from trainer.config import IndexConfig
from trainer.index import kinds
from trainer.index.base import IndexBuilder

KINDS = get_args(get_type_hints(IndexConfig)["kind"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_builder(kind: Any) -> None:
    assert isinstance(kinds.builder(IndexConfig(kind=kind)), IndexBuilder)


def test_other_modules_can_be_imported_without_scann() -> None:
    script = """
import sys
sys.modules["scann"] = None
import trainer.cli.main, trainer.pipelines.build, trainer.index.memory
from trainer.config import IndexConfig
from trainer.index import kinds
try:
    kinds.builder(IndexConfig())
except ImportError as error:
    print(error.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "scann"
