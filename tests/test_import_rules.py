"""The import contracts of pyproject.toml hold, and each one fails when it is broken."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tools.processes import ROOT

_SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
_CONTRACTS = {one["id"]: one for one in _SETTINGS["tool"]["importlinter"]["contracts"]}

#: For each contract, imports that break it: the importing package and the imported module.
_VIOLATIONS = [
    ("independent-programs", "trainer.data", "query_service.client"),
    ("independent-programs", "trainer.data", "model_server.cli"),
    ("independent-programs", "query_service.api", "trainer.errors"),
    ("independent-programs", "query_service.api", "model_server.errors"),
    ("independent-programs", "model_server", "trainer.errors"),
    ("independent-programs", "model_server", "query_service.client"),
    ("shared-rpc", "rpc", "trainer.errors"),
    ("shared-rpc", "rpc", "model_server.errors"),
    ("shared-rpc", "rpc", "query_service.errors"),
    ("no-cycles", "trainer.data", "trainer.cli"),
    ("no-cycles", "query_service.core", "query_service.server"),
    ("no-support-code", "trainer.data", "tests.conftest"),
    ("no-support-code", "query_service.api", "tools"),
    ("no-support-code", "model_server", "benchmarks"),
    ("no-support-code", "rpc", "examples"),
    ("thin-query-service", "query_service.api", "tensorflow"),
    ("thin-query-service", "query_service.stores", "numpy"),
    # Indirectly, through a package that the query service imports.
    ("thin-query-service", "rpc", "numpy"),
    ("pure-core", "query_service.core", "grpc"),
    ("pure-core", "query_service.core", "google.protobuf"),
    ("pure-core", "query_service.core", "retrieval.v1"),
    ("pure-core", "query_service.core", "sqlite3"),
    ("tf-serving-client", "query_service.api", "tfserving_subset.v1.prediction_pb2"),
    ("optional-transport", "query_service.telemetry", "query_service.transport"),
    ("model-without-artifact", "trainer.model", "trainer.artifact"),
    ("artifact-without-training", "trainer.artifact", "trainer.model.training"),
    ("artifact-without-training", "trainer.artifact", "trainer.evaluation"),
    ("registry-judges-answers", "trainer.registry", "trainer.report"),
    ("registry-judges-answers", "trainer.probe", "trainer.model.training"),
    ("scann-behind-the-index", "trainer.artifact", "scann"),
    ("scann-behind-the-index", "trainer.artifact", "trainer.index.scann"),
]


def _lint(directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of pyproject.toml and of the packages that it names."""
    directory = tmp_path_factory.mktemp("source")
    shutil.copy(ROOT / "pyproject.toml", directory)
    for package in _SETTINGS["tool"]["importlinter"]["root_packages"]:
        if (ROOT / package).is_dir():
            shutil.copytree(
                ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__")
            )
    return directory


def test_the_source_tree_keeps_every_contract(source_tree: Path) -> None:
    result = _lint(source_tree)
    assert result.returncode == 0, result.stdout


def test_every_contract_is_broken_by_some_violation() -> None:
    assert {contract for contract, _, _ in _VIOLATIONS} == set(_CONTRACTS)


@pytest.mark.parametrize(("contract", "package", "imported"), _VIOLATIONS)
def test_breaking_a_contract_fails_the_lint(
    contract: str, package: str, imported: str, source_tree: Path
) -> None:
    # In every module of the package, so that some importer of the package is affected too.
    modules = source_tree.joinpath(*package.split(".")).glob("*.py")
    texts = {path: path.read_text(encoding="utf-8") for path in modules}
    for path, text in texts.items():
        path.write_text(f"{text}\nimport {imported}\n", encoding="utf-8")
    try:
        result = _lint(source_tree, "--contract", contract)
    finally:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{_CONTRACTS[contract]['name']} BROKEN" in result.stdout
