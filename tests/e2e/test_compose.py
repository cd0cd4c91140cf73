"""The compose stack is built, trained, served and queried in a real Docker engine.

The project's own model server replaces TensorFlow Serving, so that only the base image of the
Dockerfile is needed. If no engine is running, the executable that SHORTLIST_DOCKER_ENGINE names,
or ../shared/tools/docker-engine, starts one. That one has only ``BASE_IMAGE``.
"""

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from query_service.client import RetrievalClient
from tests.skips import missing
from tools.waiting import until
from trainer.data import synthetic

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

ROOT = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yml", "docker-compose.local-model-server.yml")
#: Variables of docker-compose.yml, whose values in the caller's shell must not affect the tests.
VARIABLES = (
    "DATA_DIR",
    "MODEL",
    "MODEL_SERVER_FLAG",
    "MODEL_SERVER_IMAGE",
    "QUERY_SERVICE_ADDRESS",
    "QUERY_SERVICE_WORKERS",
    "PROMETHEUS_VERSION",
    "PROMETHEUS_PORT",
    "GRAFANA_VERSION",
    "GRAFANA_PORT",
)
#: A Python image that exists on machines without access to a container registry.
BASE_IMAGE = "python:3.11-slim-bookworm"
#: With the default, the kind of index would depend on the load of the machine.
TRAINING = (
    "--dataset synthetic --set training.epochs=2 --set training.validation_share=0"
    " --set index.kind=brute_force"
)
USER, ITEM = "u42", "i50"
SERVICE_IMAGE_LIMIT_BYTES = 150_000_000


@dataclass(frozen=True)
class Compose:
    """A Compose command with its files and its environment variables."""

    command: tuple[str, ...]
    environment: dict[str, str]

    def __call__(self, *arguments: str) -> str:
        return run(*self.command, *arguments, environment=self.environment)

    def container(self, service: str) -> str:
        return self("ps", "-a", "-q", service).strip()


@dataclass(frozen=True)
class Stack:
    """A running stack and the address of its query service."""

    compose: Compose
    address: str


def run(*command: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-8000:]}{done.stderr[-8000:]}"
    return done.stdout


def succeeds(*command: str) -> bool:
    return shutil.which(command[0]) is not None and (
        subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    )


@pytest.fixture(scope="module")
def compose_command() -> tuple[str, ...]:
    """The command of Docker Compose, after an engine has been started."""
    given = os.environ.get("SHORTLIST_DOCKER_ENGINE")
    starter = Path(given) if given else ROOT.parent / "shared" / "tools" / "docker-engine"
    failure = ""
    if given or os.access(starter, os.X_OK):
        done = subprocess.run([starter], capture_output=True, text=True, timeout=600, check=False)
        failure = f": {done.stderr.strip()[-500:]}" if done.returncode else ""
    if not succeeds("docker", "info"):
        raise missing(
            "a Docker engine that answers `docker info`",
            f"let SHORTLIST_DOCKER_ENGINE name a program that starts one{failure}",
        )
    for command in (("docker", "compose"), ("docker-compose",)):
        if succeeds(*command, "version"):
            return command
    raise missing("Docker Compose", "apt-get install docker-compose")


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Environment variables that give this stack its own project name and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {name: value for name, value in os.environ.items() if name not in VARIABLES} | {
        "COMPOSE_PROJECT_NAME": f"shortlist-test-{uuid.uuid4().hex[:8]}",
        "QUERY_SERVICE_PORT": f"{port}",
        "PYTHON_IMAGE": BASE_IMAGE,
        "TRAINER_ARGS": TRAINING,
    }


@pytest.fixture(scope="module")
def stack(compose_command: tuple[str, ...], environment: dict[str, str]) -> Iterator[Stack]:
    """A stack that is built, started and healthy. It is removed with its volumes afterwards."""
    files = [part for name in FILES for part in ("-f", name)]
    compose = Compose((*compose_command, *files), environment)

    def healthy() -> bool:
        state = "{{.State.Health.Status}}"
        found = run("docker", "inspect", "-f", state, compose.container("query-service"))
        return found.strip() == "healthy"

    try:
        compose("build")
        compose("up", "-d")
        try:
            until(healthy, 120, "every service is healthy", interval_s=0.5)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{compose('logs')}") from error
        yield Stack(compose, f"127.0.0.1:{environment['QUERY_SERVICE_PORT']}")
    finally:
        compose("down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "20")


@pytest.fixture
def client(stack: Stack) -> Iterator[RetrievalClient]:
    with RetrievalClient(stack.address) as client:
        yield client


@pytest.fixture(scope="module")
def seen() -> set[str]:
    """The items that the user has seen, read from the data set."""
    dataset = synthetic.load()
    rows = dataset.interactions
    return set(dataset.item_ids[rows.items[dataset.user_ids[rows.users] == USER]])


def test_retrieves_for_a_user(client: RetrievalClient, seen: set[str]) -> None:
    answer = client.for_user(USER, k=500)
    ids = [candidate.item_id for candidate in answer.candidates]
    scores = [candidate.score for candidate in answer.candidates]
    assert answer.personal
    assert answer.model_version >= 1
    assert len(set(ids)) == len(ids) == 500
    assert scores == sorted(scores, reverse=True)
    # Otherwise the next test would prove nothing.
    assert seen & set(ids)


def test_excludes_seen_items(client: RetrievalClient, seen: set[str]) -> None:
    all_ids = [one.item_id for one in client.for_user(USER, k=1000).candidates]
    answer = client.for_user(USER, k=500, exclude_seen=True)
    ids = [candidate.item_id for candidate in answer.candidates]
    assert ids == [one for one in all_ids if one not in seen][:500]


def test_retrieves_similar_items(client: RetrievalClient, seen: set[str]) -> None:
    ids = [one.item_id for one in client.for_item(ITEM, k=100).candidates]
    assert len(set(ids)) == 100
    assert ITEM not in ids
    unseen = [one.item_id for one in client.for_item(ITEM, k=100, viewer_id=USER).candidates]
    assert len(unseen) == 100
    assert not seen & set(unseen)


@pytest.mark.parametrize("service", ["", "retrieval.v1.RetrievalService"])
def test_reports_health(stack: Stack, service: str) -> None:
    with grpc.insecure_channel(stack.address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(request, timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_serves_the_next_version_without_a_restart(stack: Stack, client: RetrievalClient) -> None:
    before = client.for_user(USER).model_version
    stack.compose("run", "--rm", "-T", "trainer")
    until(
        lambda: client.for_user(USER).model_version == before + 1, 60, "the new version is served"
    )


def test_query_service_image_is_small(stack: Stack) -> None:
    # The first stage of the Dockerfile is the base image and a user.
    argument = f"PYTHON_IMAGE={BASE_IMAGE}"
    command = ("docker", "build", "--quiet", "--target", "base", "--build-arg", argument, ".")
    base = run(*command).strip()
    image = run("docker", "inspect", "-f", "{{.Image}}", stack.compose.container("query-service"))
    size, base_size = (
        int(run("docker", "image", "inspect", "-f", "{{.Size}}", name))
        for name in (image.strip(), base)
    )
    assert 0 < size - base_size < SERVICE_IMAGE_LIMIT_BYTES


def test_query_service_image_has_no_needless_packages(stack: Stack) -> None:
    script = (
        "from importlib.util import find_spec;"
        "print([n for n in ('numpy', 'tensorflow', 'pip', 'trainer') if find_spec(n)])"
    )
    found = stack.compose("exec", "-T", "query-service", "python", "-c", script)
    assert found.strip() == "[]"


@pytest.mark.parametrize("service", ["trainer", "model-server", "query-service"])
def test_no_container_runs_as_root(stack: Stack, service: str) -> None:
    container = stack.compose.container(service)
    image = run("docker", "inspect", "-f", "{{.Image}}", container).strip()
    user = run("docker", "run", "--rm", "--entrypoint", "id", image, "-u").strip()
    assert user != "0"
    assert (
        run("docker", "inspect", "-f", "{{.HostConfig.Privileged}}", container).strip() == "false"
    )


def test_env_file_switches_to_stock_tensorflow_serving(
    compose_command: tuple[str, ...], environment: dict[str, str]
) -> None:
    compose = Compose(compose_command, environment)
    usual = compose("config")
    assert "image: google/tf-serving-scann:2.11.0" in usual
    assert "--model_config_file=/models/models.config" in usual
    assert "SHORTLIST_MODEL: retrieval\n" in usual
    stock = compose("--env-file", "deploy/stock-tf-serving.env", "config")
    assert "image: tensorflow/serving:2.20.0" in stock
    assert "MODEL_NAME: retrieval_exact\n" in stock
    assert "--model_config_file" not in stock
    assert "SHORTLIST_MODEL: retrieval_exact\n" in stock
