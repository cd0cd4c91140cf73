"""The rules of the house: who may import whom; generated code is fresh; bytes are equal."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tensorflow as tf
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import get_model_status_pb2, model_pb2, predict_pb2

from query_service.backend.tensor_content import decode_strings
from tests.conftest import ROOT
from tfserving_subset.v1 import prediction_pb2 as subset

PACKAGES = ("trainer", "query_service", "model_server")


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in _imports(path)}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_do_not_import_one_another(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        assert not _roots(path) & (set(PACKAGES) - {package}), path


@pytest.mark.parametrize("module", ["serving_contract.py", "config_fields.py"])
def test_shared_modules_need_only_the_standard_library(module: str) -> None:
    assert _roots(ROOT / module) <= set(sys.stdlib_module_names)


def test_layers_of_the_query_service() -> None:
    for path in (ROOT / "query_service").rglob("*.py"):
        roots, imports = _roots(path), _imports(path)
        assert not roots & {"tensorflow", "numpy"}, path
        if path.name != "model_client.py":
            assert "tfserving_subset" not in roots, f"{path}: only the model client speaks it"
        # The runtime is gRPC: it knows no more of the service than that calls have statuses.
        if path.parent.name == "runtime":
            own = {name for name in imports if name.startswith(PACKAGES)}
            assert all(name.startswith("query_service.transport") for name in own), own
        else:
            assert "cygrpc" not in path.read_text(), f"{path}: only the runtime speaks it"
        speakers = ("methods.py", "model_client.py")
        if path.name not in speakers and path.parent.name != "runtime":
            assert "grpc.StatusCode" not in path.read_text(), f"{path}: only the API says codes"
        if path.name in ("retrieval.py", "errors.py") or path.parent.name == "seen_store":
            assert not roots & {"grpc", "google", "retrieval", "grpc_status"}, path
        if path.name in ("joining.py", "caching.py"):
            assert not roots & {"grpc", "google", "retrieval", "grpc_status"}, path
        if path.name == "retrieval.py":
            allowed = {"query_service.errors", "serving_contract"}
            own = {name for name in imports if name.startswith(PACKAGES)}
            assert all(name.startswith(tuple(allowed)) for name in own), own


def test_training_and_export_do_not_know_each_other() -> None:
    learning = ("training", "evaluation", "baselines")
    serving = ("serving", "index", "export", "verify")
    # A tower is what both share.
    for name in (*learning, "towers", "data", "config"):
        assert not _starting_with(_of_trainer(*serving), _imports_of_module(name)), name
    for name in serving:
        assert not _starting_with(_of_trainer(*learning), _imports_of_module(name)), name
    for name in ("data", "config"):
        assert not _starting_with(_of_trainer(*learning, "towers"), _imports_of_module(name)), name
    assert not _starting_with(_of_trainer("training"), _imports_of_module("towers"))
    # A version is judged by what it answers.
    assert not _starting_with(_of_trainer("training", "baselines"), _imports_of_module("lifecycle"))


def _of_trainer(*names: str) -> tuple[str, ...]:
    return tuple(f"trainer.{name}" for name in names)


def _imports_of_module(name: str) -> set[str]:
    """Of a module of the trainer, or of all the modules of a package."""
    file = ROOT / "trainer" / f"{name}.py"
    files = [file] if file.is_file() else list((ROOT / "trainer" / name).rglob("*.py"))
    assert files, name
    return set().union(*map(_imports, files))


def _starting_with(modules: tuple[str, ...], found: set[str]) -> set[str]:
    return {one for one in found if any(f"{one}.".startswith(f"{name}.") for name in modules)}


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, ROOT / "proto" / "generate.py", "--out", tmp_path], check=True, timeout=60
    )
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.py*"))
    assert made
    for path in made:
        assert (ROOT / "proto" / path).read_bytes() == (tmp_path / path).read_bytes(), path


def _same_fields(ours: Descriptor, theirs: Descriptor) -> None:
    for field in ours.fields:
        other = theirs.fields_by_number[field.number]
        assert field.name == other.name
        integers = {FieldDescriptor.TYPE_ENUM, FieldDescriptor.TYPE_INT32}
        assert field.type == other.type or {field.type, other.type} <= integers, field.full_name
        assert field.is_repeated == other.is_repeated, field.full_name
        assert field.is_packed == other.is_packed, field.full_name
        if field.message_type and field.message_type.full_name != other.message_type.full_name:
            _same_fields(field.message_type, other.message_type)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (subset.Tensor, tensor_pb2.TensorProto),
        (subset.ModelSpec, model_pb2.ModelSpec),
        (subset.PredictRequest, predict_pb2.PredictRequest),
        (subset.PredictResponse, predict_pb2.PredictResponse),
        (subset.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
        (subset.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse),
    ],
)
def test_the_subset_has_tensorflow_servings_fields(ours: type, theirs: type) -> None:
    _same_fields(ours.DESCRIPTOR, theirs.DESCRIPTOR)  # type: ignore[attr-defined]


def test_the_subset_has_the_same_bytes() -> None:
    request = subset.PredictRequest(
        model_spec=subset.ModelSpec(name="retrieval", signature_name="by_user"),
        output_filter=["score"],
    )
    request.model_spec.version.value = 3
    shape = subset.TensorShape(dim=[subset.TensorShape.Dim(size=2)])
    request.inputs["user_id"].CopyFrom(
        subset.Tensor(dtype=subset.DT_STRING, tensor_shape=shape, string_val=[b"42", b"\xff"])
    )
    request.inputs["k"].CopyFrom(
        subset.Tensor(dtype=subset.DT_INT32, tensor_shape=shape, int_val=[1, -2])
    )
    data = request.SerializeToString(deterministic=True)
    official = predict_pb2.PredictRequest.FromString(data)
    assert official.SerializeToString(deterministic=True) == data
    assert list(official.inputs["k"].int_val) == [1, -2]
    assert official.inputs["user_id"].dtype == 7
    assert official.model_spec.version.value == 3
    assert subset.PredictRequest.FromString(official.SerializeToString()) == request


def test_strings_in_tensor_content_are_read_as_tensorflow_reads_them() -> None:
    strings = [b"ab", b"", b"x" * 127, b"y" * 300, b"z"]
    content = b"\x02\x00\x7f\xac\x02\x01" + b"".join(strings)
    shape = subset.TensorShape(dim=[subset.TensorShape.Dim(size=len(strings))])
    tensor = subset.Tensor(dtype=subset.DT_STRING, tensor_shape=shape, tensor_content=content)
    assert list(tf.io.parse_tensor(tensor.SerializeToString(), tf.string).numpy()) == strings
    assert decode_strings(content, len(strings)) == strings


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = settings["tool"]["setuptools"]["packages"]
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert {name for name in named if name.split(".")[0] in PACKAGES} == there


def test_images_hold_what_their_packages_import() -> None:
    ours = {*PACKAGES, "serving_contract", "retrieval", "tfserving_subset"}
    copied: dict[str, set[str]] = {}
    stage = ""
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        match line.split():
            case ["FROM", parent, "AS", stage]:
                copied[stage] = set(copied.get(parent, ()))
            case ["COPY", *sources, _] if not sources[0].startswith("--"):
                names = {Path(one.removeprefix("proto/")).parts[0] for one in sources}
                copied[stage] |= {name.removesuffix(".py") for name in names}
    held = {package: stage for stage in copied for package in copied[stage] & set(PACKAGES)}
    assert set(held) == set(PACKAGES)
    for package, stage in held.items():
        needed = {root for path in (ROOT / package).rglob("*.py") for root in _roots(path)}
        assert needed & ours <= copied[stage], stage


def test_no_module_is_long() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 300, path
