"""Versions are loaded and unloaded while requests arrive; startup and shutdown."""

import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf

from model_server import manager
from model_server.errors import LoadError
from model_server.manager import State
from model_server.servable import Servable
from tests.conftest import running
from tests.model_server.conftest import (
    Serve,
    Stubs,
    greeting,
    model_status,
    predict_request,
    save_version,
    states,
    status,
)
from tools.processes import ROOT, printed_address
from tools.waiting import until

AVAILABLE, END = State.AVAILABLE, State.END


def test_new_version_takes_over_without_a_failed_request(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1, "one ")
    stubs, server = serve(tmp_path)
    greetings: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            greetings.append(greeting(stubs))

    asking = threading.Thread(target=ask)
    asking.start()
    for version in (2, 3, 10):
        save_version(tmp_path, version, f"{version} ")
        until(lambda wanted=f"{version} Ada": wanted in greetings[-5:])  # type: ignore[misc]
    ended.set()
    asking.join()
    # An exception would have ended the thread, so no request failed.
    order = list(dict.fromkeys(greetings))
    assert order == ["one Ada", "2 Ada", "3 Ada", "10 Ada"]
    until(lambda: states(stubs) == {1: END, 2: END, 3: END, 10: AVAILABLE})
    versions = server.manager.status("greeter")
    loaded = [version.number for version in versions if version.servable]
    assert loaded == [10], "old versions are freed"


def test_old_version_is_served_while_the_new_one_is_broken(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1, "one ")
    stubs, _ = serve(tmp_path)
    broken = tmp_path / "greeter" / "2"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no")
    until(lambda: states(stubs).get(2) == END)
    found = status(stubs, 2)
    assert found.status.error_code != 0
    assert found.status.error_message
    assert greeting(stubs) == "one Ada"
    # It is served even after its own directory is deleted, because nothing better is available.
    shutil.rmtree(tmp_path / "greeter" / "1")
    time.sleep(0.3)
    assert greeting(stubs) == "one Ada"
    # A version that was deleted and created again is loaded again.
    save_version(tmp_path, 1, "one ")
    shutil.rmtree(broken)
    until(lambda: 2 not in states(stubs))
    save_version(tmp_path, 2, "two ")
    until(lambda: greeting(stubs) == "two Ada")


def test_version_whose_warm_up_fails_is_not_served(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1, "one ")
    stubs, _ = serve(tmp_path)
    save_version(tmp_path, 2, "two ", warm_up=predict_request(name=["a"], k=[-1]))
    until(lambda: states(stubs).get(2) == END)
    assert greeting(stubs) == "one Ada"


def test_deleting_the_newest_version_serves_the_one_before(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1, "one ")
    save_version(tmp_path, 2, "two ")
    stubs, _ = serve(tmp_path)
    assert greeting(stubs) == "two Ada"
    shutil.rmtree(tmp_path / "greeter" / "2")
    until(lambda: greeting(stubs) == "one Ada")
    shutil.rmtree(tmp_path / "greeter" / "1")
    until(lambda: states(stubs).get(1, END) == END)
    with pytest.raises(grpc.RpcError) as raised:
        greeting(stubs)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_version_is_served_while_its_directory_is_missing(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1, "one ")
    stubs, _ = serve(tmp_path)
    (tmp_path / "greeter").rename(tmp_path / ".elsewhere")
    time.sleep(0.3)
    assert greeting(stubs) == "one Ada"


def test_directories_without_a_number_as_name_are_no_versions(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1, "one ")
    for name in ("2.tmp", "v3", "-4", "\u0665", str(2**63)):
        (tmp_path / "greeter" / name).mkdir()
    stubs, _ = serve(tmp_path)
    time.sleep(0.2)
    assert states(stubs) == {1: AVAILABLE}


def test_stored_load_error_does_not_keep_the_loaded_data_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LoadedData:
        pass

    class BrokenServable:
        def __init__(self, directory: Path) -> None:
            loaded = LoadedData()
            references.append(weakref.ref(loaded))
            raise LoadError(f"{directory} does not warm up", 5)

    references: list[weakref.ref[LoadedData]] = []
    monkeypatch.setattr(manager, "Servable", BrokenServable)
    (tmp_path / "greeter" / "1").mkdir(parents=True)
    versions = manager.Manager(tmp_path)
    versions.poll()
    [version] = versions.status("greeter")
    assert version.error
    gc.collect()
    assert [reference() for reference in references] == [None]


def test_links_may_change_while_versions_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FakeServable:
        def __init__(self, directory: Path) -> None:
            if not directory.is_dir():
                raise LoadError(f"{directory} is gone", 5)

        def close(self) -> None:
            pass

    monkeypatch.setattr(manager, "Servable", FakeServable)
    for version in (1, 2):
        (tmp_path / "versions" / f"{version}" / "greeter" / f"{version}").mkdir(parents=True)
    (tmp_path / "current").symlink_to("versions/1")
    (tmp_path / "greeter").symlink_to("current/greeter")
    ended = threading.Event()

    def change() -> None:
        for version in itertools.cycle((1, 2)):
            (tmp_path / ".next").symlink_to(f"versions/{version}")
            (tmp_path / ".next").replace(tmp_path / "current")
            if ended.is_set():
                return

    versions = manager.Manager(tmp_path)
    versions.poll()
    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(3_000):
            versions.poll()
            assert versions.ready(), "some version is always served"
            assert not any(version.error for version in versions.status("greeter"))
    finally:
        ended.set()
        changing.join()


def test_model_that_is_added_later_is_served(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1)
    stubs, _ = serve(tmp_path)
    save_version(tmp_path, 4, "late ", model="latecomer")
    request = predict_request("latecomer")

    def is_served() -> bool:
        try:
            stubs.predict(request, timeout=10)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return False
        return True

    until(is_served)
    assert stubs.predict(request, timeout=10).model_spec.version.value == 4


def test_closing_a_servable_frees_it_without_garbage_collection(tmp_path: Path) -> None:
    save_version(tmp_path, 1)
    loaded = Servable(tmp_path / "greeter" / "1")
    graph = weakref.ref(loaded._graph)
    gc.disable()
    try:
        loaded.close()
        assert graph() is None
    finally:
        gc.enable()


class _Waiter(tf.Module):
    """A model with a signature ``wait``, which answers when a file exists.

    Input: ``path`` string []. Output: ``found`` string [1], which is the path.
    """

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, "path")])
    def wait(self, path: tf.Tensor) -> dict[str, tf.Tensor]:
        def find(_: tf.Tensor) -> list[tf.Tensor]:
            return [tf.io.matching_files(path)]

        [found] = tf.while_loop(
            lambda found: tf.size(found) == 0,
            find,
            [tf.constant([], tf.string)],
            shape_invariants=[tf.TensorShape([None])],
        )
        return {"found": found}


class _WaitingRequest:
    """A request in flight in a model server process, which :meth:`finish` lets finish."""

    def __init__(self, address: str, directory: Path) -> None:
        self.stubs = Stubs(int(address.rpartition(":")[2]))
        self._file = directory / "finish"
        self.call = self.stubs.predict.future(self._request(self._file), timeout=240)
        # On one channel, requests are accepted in the order in which they are sent.
        self.stubs.predict(self._request(directory), timeout=120)
        assert not self.call.done()

    @staticmethod
    def _request(path: Path) -> Any:
        return predict_request("waiter", "wait", path=tf.constant(str(path)))

    def finish(self) -> None:
        """Let the request finish; raise an exception if it fails."""
        self._file.touch()
        assert list(self.call.result().outputs["found"].string_val) == [str(self._file).encode()]

    def server_refuses_others(self) -> bool:
        """Tell whether the server refuses another request as UNAVAILABLE."""
        try:
            self.stubs.predict(predict_request("waiter"), timeout=5)
        except grpc.RpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAVAILABLE)
        return False


@pytest.fixture(scope="module")
def waiter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODELS_DIR with the model ``waiter``."""
    models_dir = tmp_path_factory.mktemp("models")
    module = _Waiter()
    directory = str(models_dir / "waiter" / "1")
    tf.saved_model.save(module, directory, signatures={"wait": module.wait})
    return models_dir


def test_sigterm_lets_requests_in_flight_finish(waiter: Path, tmp_path: Path) -> None:
    arguments = ("--models-dir", str(waiter), "--port", "0", "--grace-s", "120")
    with running("model_server", *arguments) as (address, process):
        request = _WaitingRequest(address, tmp_path)
        process.send_signal(signal.SIGTERM)
        until(request.server_refuses_others, 30, "new requests are refused")
        assert not request.call.done()
        request.finish()
        assert process.wait(30) == 0


def test_request_longer_than_the_grace_period_is_cut_off(waiter: Path, tmp_path: Path) -> None:
    arguments = ("--models-dir", str(waiter), "--port", "0", "--grace-s", "0.2")
    with running("model_server", *arguments) as (address, process):
        request = _WaitingRequest(address, tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert request.call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_command_serves_every_model_until_any_thread_receives_a_signal(
    tmp_path: Path, command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    save_version(tmp_path, 1)
    save_version(tmp_path, 3, model="other")
    found: dict[str, list[tuple[int, int]]] = {}

    def ask_and_end() -> None:
        output = ""

        def address() -> str | None:
            nonlocal output
            output += capsys.readouterr().out
            return printed_address(output)

        try:
            until(address, 60, "the server is ready")
            stubs = Stubs(int(str(address()).rpartition(":")[2]))
            for model in ("greeter", "other"):
                found[model] = [
                    (entry.version, entry.state) for entry in model_status(stubs, model)
                ]
            stubs.channel.close()
        finally:
            # The kernel may choose any thread for a signal. Python does not wake up its main thread
            # if it is another one.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    asking = threading.Thread(target=ask_and_end)
    asking.start()
    assert command(["--models-dir", str(tmp_path), "--port", "0"]) == 0
    asking.join()
    assert found == {"greeter": [(1, AVAILABLE)], "other": [(3, AVAILABLE)]}


def test_server_exits_if_the_first_load_fails(
    tmp_path: Path, command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "greeter" / "1").mkdir(parents=True)
    assert command(["--models-dir", str(tmp_path), "--port", "0"]) == 1
    assert "error: greeter/1" in capsys.readouterr().err


def test_no_port_is_open_before_a_model_is_loaded(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "model_server", "--models-dir", str(tmp_path)),
            *("--port", "0", "--poll-interval-s", "0.1"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting for models" in line:
                break
        import psutil

        listening = [
            c for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"
        ]
        assert listening == []
        save_version(tmp_path, 1)
        assert process.stdout is not None
        assert "greeter/1" in process.stdout.readline()
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0
