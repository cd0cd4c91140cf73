"""TLS over real sockets: trusted and untrusted certificates, and files that are replaced."""

import contextlib
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from cryptography.hazmat.primitives import serialization

from query_service.cli import main as cli
from query_service.client import RetrievalClient
from tests.conftest import running
from tests.query_service.certificates import Authority, Pair
from tests.query_service.conftest import TRANSPORTS, FakeModelServer, Service
from tools.processes import ROOT

Serve = Callable[..., Service]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path / "other")


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _serving(pair: Pair, client_ca: Authority | None = None) -> dict[str, str]:
    client_ca_file = str(client_ca.file) if client_ca else ""
    return {"tls_cert": str(pair.cert), "tls_key": str(pair.key), "tls_client_ca": client_ca_file}


def _ask(address: str, roots: bytes | None, pair: Pair | None = None, **more: Any) -> int:
    """Return the model's version in the answer to a request over a new connection."""
    chain, key = pair.pem if pair else (None, None)
    client = RetrievalClient(
        address, root_certificates=roots, certificate_chain=chain, private_key=key, **more
    )
    with client:
        return client.for_user("u1").model_version


def _refusal(address: str, roots: bytes | None, pair: Pair | None = None, **more: Any) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        _ask(address, roots, pair, **more)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


def _served_certificate(address: str) -> str:
    """Return the certificate that the server presents on a new connection."""
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=5)


def _first_certificate(pair: Pair) -> str:
    """Return the first certificate in a file as the ssl module writes it."""
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(_first_block(pair.cert.read_text())))


def _first_block(chain: str) -> str:
    end = "-----END CERTIFICATE-----"
    return chain.partition(end)[0] + end


def test_client_with_the_authority_is_served_over_tls_only(
    serve: Serve, authority: Authority, transport: str
) -> None:
    service = serve(transport=transport, **_serving(authority.issue("server")))
    assert _ask(service.address, authority.pem) == 7
    # Plain text does not work with TLS, nor TLS with a service without it.
    _refusal(service.address, None)
    _refusal(serve(transport=transport).address, authority.pem)


@pytest.mark.parametrize("wrong", ["expired", "self-signed", "of another authority", "other name"])
def test_clients_reject_an_untrusted_certificate(
    serve: Serve, authority: Authority, other: Authority, transport: str, wrong: str
) -> None:
    pairs: dict[str, Callable[[], Pair]] = {
        "expired": lambda: authority.issue("server", expired=True),
        "self-signed": other.self_signed,
        "of another authority": lambda: other.issue("server"),
        "other name": lambda: authority.issue("server", "elsewhere.example"),
    }
    service = serve(transport=transport, **_serving(pairs[wrong]()))
    _refusal(service.address, authority.pem)
    if wrong == "other name":
        assert _ask(service.address, authority.pem, server_name="elsewhere.example") == 7


def test_callers_without_a_trusted_certificate_are_refused(
    serve: Serve, authority: Authority, other: Authority, tmp_path: Path, transport: str
) -> None:
    clients = Authority(tmp_path / "clients")
    service = serve(transport=transport, **_serving(authority.issue("server"), clients))
    assert _ask(service.address, authority.pem, clients.issue("good")) == 7
    _refusal(service.address, authority.pem)
    for pair in (
        clients.issue("expired", expired=True),
        other.issue("stranger"),
        other.self_signed(),
        # The authority of the service does not vouch for callers.
        authority.issue("server-too"),
    ):
        _refusal(service.address, authority.pem, pair)
    assert _ask(service.address, authority.pem, clients.issue("again")) == 7


class _Load:
    """Sends requests over one connection, and over a new connection for each request."""

    def __init__(self, address: str, roots: bytes) -> None:
        self.answers = 0
        self._address, self._roots = address, roots
        self._stopped = threading.Event()
        self._pool = futures.ThreadPoolExecutor(2)
        loops = (self._ask_on_one_connection, self._ask_on_new_connections)
        self._asking = [self._pool.submit(loop) for loop in loops]

    def until_more(self, count: int = 10) -> None:
        """Wait for ``count`` more answers. Raises what a thread raised."""
        wanted, end_s = self.answers + count, time.monotonic() + 20
        while self.answers < wanted:
            assert time.monotonic() < end_s
            self._stopped.wait(0.01)
            for one in self._asking:
                assert not one.done() or one.result()

    def stop(self) -> None:
        self._stopped.set()
        self._pool.shutdown()
        for one in self._asking:
            assert one.result()

    def _ask_on_one_connection(self) -> bool:
        with RetrievalClient(self._address, root_certificates=self._roots) as client:
            while not self._stopped.wait(0.002):
                assert client.for_user("u1").model_version == 7
        return True

    def _ask_on_new_connections(self) -> bool:
        while not self._stopped.is_set():
            assert _ask(self._address, self._roots) == 7
            self.answers += 1
        return True


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in caplog.records]
    return [message for message in messages if "keeps using the previous files" in message]


def test_certificates_are_replaced_under_load(
    serve: Serve,
    authority: Authority,
    other: Authority,
    transport: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pair, first = authority.issue("server"), authority.issue("first")
    pair.replace_with(first)
    service = serve(transport=transport, **_serving(pair))
    load = _Load(service.address, authority.pem + other.pem)
    with contextlib.ExitStack() as stack:
        stack.callback(load.stop)
        load.until_more()
        assert _served_certificate(service.address) == _first_certificate(first)
        # Between the two renames, the key does not fit the certificate.
        second = other.issue("second")
        pair.replace_with(second)
        load.until_more()
        assert _served_certificate(service.address) == _first_certificate(second)
        # The file is cut off, and then deleted.
        whole = pair.cert.read_bytes()
        pair.cert.write_bytes(whole[: len(whole) // 3])
        load.until_more()
        pair.cert.unlink()
        load.until_more()
        assert _served_certificate(service.address) == _first_certificate(second)
        pair.replace_with(first)
        load.until_more()
        assert _served_certificate(service.address) == _first_certificate(first)
    warnings = _warnings(caplog)
    assert sum("no certificate in PEM" in warning for warning in warnings) == 1
    assert sum("No such file" in warning for warning in warnings) == 1
    assert "BEGIN" not in caplog.text


def test_key_of_another_certificate_keeps_the_previous_pair(
    serve: Serve, authority: Authority, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    pair, first, second = (authority.issue(stem) for stem in ("server", "first", "second"))
    pair.replace_with(first)
    service = serve(transport=transport, **_serving(pair))
    pair.key.write_bytes(second.key.read_bytes())
    for _ in range(3):
        assert _served_certificate(service.address) == _first_certificate(first)
    warnings = _warnings(caplog)
    assert len(warnings) == 1
    assert f"{pair.key}: this is not the key of the certificate in {pair.cert}" in warnings[0]
    pair.cert.write_bytes(second.cert.read_bytes())
    assert _served_certificate(service.address) == _first_certificate(second)


def test_authorities_of_callers_are_replaced(
    serve: Serve, authority: Authority, other: Authority, transport: str
) -> None:
    clients = authority.file.with_name("clients.pem")
    clients.write_bytes(authority.pem)
    settings = _serving(authority.issue("server")) | {"tls_client_ca": str(clients)}
    service = serve(transport=transport, **settings)
    old, new = authority.issue("old"), other.issue("new")
    _refusal(service.address, authority.pem, new)
    clients.write_bytes(authority.pem + other.pem)
    for pair in (old, new):
        assert _ask(service.address, authority.pem, pair) == 7
    clients.write_bytes(other.pem)
    _refusal(service.address, authority.pem, old)
    assert _ask(service.address, authority.pem, new) == 7


def test_each_of_several_workers_uses_new_files(
    model_server: FakeModelServer, authority: Authority
) -> None:
    pair, second = authority.issue("server"), authority.issue("second")
    first = _first_certificate(pair)
    arguments = ("--port", "0", "--workers", "2", "--model-server")
    tls = ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
    address = f"127.0.0.1:{model_server.port}"
    with running("query_service", "serve", *arguments, address, *tls) as (address, process):
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                local = [("grpc.use_local_subchannel_pool", 1)]
                credentials = grpc.ssl_channel_credentials(authority.pem)
                channel = stack.enter_context(grpc.secure_channel(address, credentials, local))
                grpc.channel_ready_future(channel).result(5)
                if _workers_with_connections(process.pid) == 2:
                    break
            assert _workers_with_connections(process.pid) == 2
        assert {_served_certificate(address) for _ in range(16)} == {first}
        pair.replace_with(second)
        # All connections reach the same worker with a probability of 2 ** -15.
        assert {_served_certificate(address) for _ in range(16)} == {_first_certificate(second)}


def _workers_with_connections(parent: int) -> int:
    children = psutil.Process(parent).children()
    return sum(
        any(
            one.status == psutil.CONN_ESTABLISHED and one.laddr.port != one.raddr.port
            for one in child.net_connections("tcp")
            if one.laddr.port == _listening(child)
        )
        for child in children
    )


def _listening(process: psutil.Process) -> int:
    ports = {one.laddr.port for one in process.net_connections("tcp") if one.status == "LISTEN"}
    return int(min(ports))


def _break_file(defect: str, pair: Pair, authority: Authority) -> tuple[Path, str]:
    """Break one of the files, and return it with the expected message."""
    if defect == "no certificate":
        pair.cert.unlink()
        return pair.cert, "No such file or directory"
    if defect == "no key":
        pair.key.unlink()
        return pair.key, "No such file or directory"
    if defect == "directory":
        pair.key.unlink()
        pair.key.mkdir()
        return pair.key, "Is a directory"
    if defect == "other key":
        pair.key.write_bytes(authority.issue("another").key.read_bytes())
        return pair.key, f"this is not the key of the certificate in {pair.cert}"
    if defect == "exchanged":
        pair.cert.write_bytes(pair.key.read_bytes())
        return pair.cert, "the file holds no certificate in PEM"
    if defect == "password":
        key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        return pair.key, "the file holds no private key in PEM without a password"
    authority.file.write_text("nothing")
    return authority.file, "the file holds no certificate in PEM"


@pytest.mark.parametrize("side", ["service", "model server", "caller"])
@pytest.mark.parametrize(
    "defect",
    ["no certificate", "no key", "directory", "other key", "exchanged", "password", "no authority"],
)
def test_unusable_file_fails_at_startup(
    authority: Authority, side: str, defect: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = authority.issue("pair")
    file, message = _break_file(defect, pair, authority)
    pair_of = {"service": "--tls", "model server": "--model-server", "caller": "--tls"}[side]
    authorities = {"service": "--tls-client-ca", "model server": "--model-server-ca"}
    command = [
        *(["ask", "--user", "u1"] if side == "caller" else ["serve", "--port", "0"]),
        *(authorities.get(side, "--tls-ca"), str(authority.file)),
        *(f"{pair_of}-cert", str(pair.cert), f"{pair_of}-key", str(pair.key)),
    ]
    assert cli.main(command) == 1
    assert capsys.readouterr().err == f"error: {file}: {message}\n"


def test_unusable_file_stops_the_service_with_several_workers(authority: Authority) -> None:
    pair = authority.issue("pair")
    pair.key.unlink()
    files = ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
    done = subprocess.run(
        [sys.executable, "-m", "query_service", "serve", "--port", "0", "--workers", "2", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"error: {pair.key}: No such file or directory\n"


@pytest.mark.parametrize(
    "flags",
    [
        ["--tls-cert", "a"],
        ["--tls-key", "a"],
        ["--tls-client-ca", "a"],
        ["--model-server-cert", "a"],
        ["--model-server-cert", "a", "--model-server-key", "b"],
        ["--model-server-name", "a"],
        ["--insecure", "perhaps"],
    ],
)
def test_incomplete_combination_of_flags_is_an_error(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["serve", *flags])
    assert raised.value.code == 2
    assert flags[0] in capsys.readouterr().err.splitlines()[-1]


@contextlib.contextmanager
def _model_server(pair: Pair, client_ca: Authority | None = None) -> Iterator[str]:
    chain, key = pair.pem
    roots = client_ca.pem if client_ca else None
    fake = FakeModelServer(grpc.ssl_server_credentials([(key, chain)], roots, bool(client_ca)))
    try:
        yield f"127.0.0.1:{fake.port}"
    finally:
        fake.stop()


def _answer(service: Service) -> int:
    with RetrievalClient(service.address) as client:
        return client.for_user("u1").model_version


def test_model_server_is_asked_over_tls(
    serve: Serve, authority: Authority, other: Authority
) -> None:
    ours, theirs = str(authority.file), str(other.file)
    with _model_server(authority.issue("model-server")) as address:
        assert _answer(serve(model_server=address, model_server_ca=ours)) == 7
        for wrong in ("", theirs):
            with pytest.raises(grpc.RpcError) as caught:
                _answer(serve(model_server=address, model_server_ca=wrong))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with _model_server(authority.issue("expired", expired=True)) as address:
        with pytest.raises(grpc.RpcError) as caught:
            _answer(serve(model_server=address, model_server_ca=ours))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with _model_server(authority.issue("named", "models.example")) as address:
        settings = {"model_server": address, "model_server_ca": ours}
        with pytest.raises(grpc.RpcError):
            _answer(serve(**settings))
        assert _answer(serve(model_server_name="models.example", **settings)) == 7


def test_model_server_gets_a_client_certificate(
    serve: Serve, authority: Authority, other: Authority
) -> None:
    with _model_server(authority.issue("model-server"), other) as address:
        settings = {"model_server": address, "model_server_ca": str(authority.file)}
        with pytest.raises(grpc.RpcError):
            _answer(serve(**settings))
        pair = other.issue("service")
        settings |= {"model_server_cert": str(pair.cert), "model_server_key": str(pair.key)}
        assert _answer(serve(**settings)) == 7


def test_commands_work_over_mutual_tls(
    serve: Serve,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = serve(**_serving(authority.issue("server", "query-service"), authority))
    pair = authority.issue("caller")
    ids = tmp_path / "ids.txt"
    ids.write_text("u1\n")
    load = ["--users", str(ids), "--concurrency", "2", "--duration", "0.3", "--warm-up", "0"]
    commands = [["ask", "--user", "u1"], ["health"], ["bench", *load]]
    options = ["--tls-ca", str(authority.file), "--tls-name", "query-service"]
    for command in commands:
        to = [*command, "--address", service.address]
        assert cli.main([*to, "--timeout-s", "2"]) == 1
        assert cli.main([*to, *options, "--timeout-s", "2"]) == 1
        assert (
            cli.main([*to, *options, "--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]) == 0
        )
    # The same from environment variables, as in a container.
    for name, value in (
        ("CA", authority.file),
        ("CERT", pair.cert),
        ("KEY", pair.key),
        ("NAME", "query-service"),
    ):
        monkeypatch.setenv(f"SHORTLIST_CLIENT_TLS_{name}", str(value))
    for command in commands:
        assert cli.main([*command, "--address", service.address]) == 0
    capsys.readouterr()
    monkeypatch.setenv("SHORTLIST_CLIENT_TLS_CA", "")
    assert cli.main(["health", "--address", service.address]) == 1
    assert "need --tls-ca" in capsys.readouterr().err
