"""The source tree keeps the rules that import-linter cannot express."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.processes import ROOT

PACKAGES = ("trainer", "query_service", "model_server", "rpc")
#: Modules at the top level that every program may import.
SHARED_MODULES = ("serving_contract", "config_fields")
MAX_LINES = 300


def _sources(*roots: str) -> Iterator[Path]:
    for root in roots:
        yield from (ROOT / root).rglob("*.py")


def _imported_names(path: Path) -> set[str]:
    """The dotted names of all modules and objects that a file imports, lazy imports included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _top_level_names(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in _imported_names(path)}


def _is_in(path: Path, *packages: str) -> bool:
    return any(path.is_relative_to(ROOT / package) for package in packages)


@pytest.mark.parametrize("name", SHARED_MODULES)
def test_shared_modules_import_only_the_standard_library(name: str) -> None:
    assert _top_level_names(ROOT / f"{name}.py") <= sys.stdlib_module_names


def test_private_grpc_modules_are_used_in_the_transport_only() -> None:
    users = [
        path
        for path in _sources(*PACKAGES)
        if any(name.startswith("grpc._") for name in _imported_names(path))
    ]
    assert users, "expected the transport to use grpc._cython; update this test if it is gone"
    assert all(_is_in(path, "query_service/transport") for path in users), users


def test_status_codes_are_used_by_the_grpc_layers_only() -> None:
    # The API and rpc answer callers; the backend reads the codes of the model server; the
    # transport sends them; telemetry counts them.
    layers = ("api", "backend", "transport", "telemetry")
    allowed = (*(f"query_service/{layer}" for layer in layers), "rpc")
    for path in _sources("query_service"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        uses = [
            node.lineno
            for node in nodes
            if isinstance(node, ast.Attribute)
            and node.attr == "StatusCode"
            and isinstance(node.value, ast.Name)
            and node.value.id == "grpc"
        ]
        assert not uses or _is_in(path, *allowed), f"{path}, lines {uses}"
        if not _is_in(path, *allowed):
            assert "grpc.StatusCode" not in _imported_names(path), path


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_are_at_most_300_lines_long(package: str) -> None:
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in _sources(package)
    }
    assert {path: n for path, n in lengths.items() if n > MAX_LINES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_directory_with_modules_is_a_package(package: str) -> None:
    directories = {path.parent for path in _sources(package)}
    assert [path for path in directories if not (path / "__init__.py").is_file()] == []


def test_docker_images_contain_what_their_packages_import() -> None:
    ours = {*PACKAGES, *SHARED_MODULES, "retrieval", "tfserving_subset"}
    copied: dict[str, set[str]] = {}
    stage = ""
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        match line.split():
            case ["FROM", parent, "AS", stage]:
                copied[stage] = set(copied.get(parent, ()))
            case ["COPY", *sources, _] if not sources[0].startswith("--"):
                roots = {Path(source.removeprefix("proto/")).parts[0] for source in sources}
                copied[stage] |= {root.removesuffix(".py") for root in roots}
    # The stage of a program is named after it.
    for program in ("trainer", "query_service", "model_server"):
        contents = copied[program.replace("_", "-")]
        needed = {program}
        for package in contents & set(PACKAGES):
            needed |= {name for path in _sources(package) for name in _top_level_names(path)}
        assert needed & ours <= contents, program


def test_docker_build_context_contains_what_the_dockerfile_copies() -> None:
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        match line.split():
            case ["COPY", *sources, _] if not sources[0].startswith("--"):
                assert {Path(source).parts[0] for source in sources} <= kept, line


def test_query_service_runs_without_loading_the_fast_transport() -> None:
    script = (
        "import sys; import query_service.server, query_service.cli; "
        "print([name for name in sys.modules if 'query_service.transport' in name])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.strip() == "[]"
