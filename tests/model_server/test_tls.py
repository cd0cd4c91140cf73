"""The model server serves over TLS as TensorFlow Serving's SSLConfig file says."""

import json
import traceback
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trustme

from model_server import tls
from rpc.errors import UnusableFile
from tests.model_server.conftest import Serve, Stubs, predict_request, save_version


def _ssl_config(**fields: object) -> str:
    """Return an SSLConfig in text format, whose strings can be written like those of JSON."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items())


def _pair(authority: trustme.CA) -> tuple[bytes, bytes]:
    """Return a key and its certificate for 127.0.0.1."""
    issued = authority.issue_cert("127.0.0.1")
    return issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()


def _write_config(file: Path, authority: trustme.CA, **more: object) -> Path:
    """Write an SSLConfig with a new key and certificate; return ``file``."""
    key, certificate = _pair(authority)
    file.write_text(_ssl_config(server_key=key.decode(), server_cert=certificate.decode(), **more))
    return file


def _greet(port: int, credentials: grpc.ChannelCredentials | None) -> str:
    stubs = Stubs(port, credentials)
    try:
        answer = stubs.predict(predict_request(), timeout=10)
        return str(answer.outputs["greeting"].string_val[0].decode())
    finally:
        stubs.channel.close()


def _is_refused(port: int, credentials: grpc.ChannelCredentials | None) -> bool:
    with pytest.raises(grpc.RpcError) as raised:
        _greet(port, credentials)
    return bool(raised.value.code() == grpc.StatusCode.UNAVAILABLE)


def _credentials(
    authority: trustme.CA, pair: tuple[bytes, bytes] | None = None
) -> grpc.ChannelCredentials:
    """Return credentials that trust an authority and present a client certificate, if any."""
    root = authority.cert_pem.bytes()
    return grpc.ssl_channel_credentials(root, *(pair or ()))


def test_only_clients_that_trust_the_certificate_connect(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1)
    ours, other = trustme.CA(), trustme.CA()
    _, server = serve(tmp_path, ssl_config_file=_write_config(tmp_path / "tls.txt", ours))
    assert _greet(server.port, _credentials(ours)) == "Hello Ada"
    assert _is_refused(server.port, _credentials(other))
    assert _is_refused(server.port, None)


def test_client_verify_requires_a_certificate_of_custom_ca(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1)
    ours, clients = trustme.CA(), trustme.CA()
    ca = "# Főtanúsítvány\n" + clients.cert_pem.bytes().decode()
    file = _write_config(tmp_path / "tls.txt", ours, custom_ca=ca, client_verify=True)
    _, server = serve(tmp_path, ssl_config_file=file)
    assert _greet(server.port, _credentials(ours, _pair(clients))) == "Hello Ada"
    assert _is_refused(server.port, _credentials(ours))
    # The authority of the server's certificate is not trusted for clients.
    assert _is_refused(server.port, _credentials(ours, _pair(ours)))


_SECRET_LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw"


def _invalid_files() -> dict[str, tuple[str, str]]:
    key, certificate = (text.decode() for text in _pair(trustme.CA()))
    other, _ = (text.decode() for text in _pair(trustme.CA()))
    return {
        "unknown field": ("server_key: 'a'\nserver_cart: 'b'\n", "not an SSLConfig"),
        # The parser's own message would quote the line, which is part of a key.
        "key without quotes": (f"server_key: {_SECRET_LINE}\n", "text format, line 1$"),
        "key without a closing quote": (f'server_key: "{_SECRET_LINE}\n', "text format, line 1$"),
        "bare key": (f"{_SECRET_LINE}\n", "text format, line 1$"),
        "missing key": (_ssl_config(server_cert=certificate), "server_key is missing"),
        "missing certificate": (_ssl_config(server_key=key), "server_cert is missing"),
        "key of another certificate": (
            _ssl_config(server_key=other, server_cert=certificate),
            "not a key and its certificate",
        ),
        "not PEM": (_ssl_config(server_key="a", server_cert="b"), "not a key and its certificate"),
        "missing client CA": (
            _ssl_config(server_key=key, server_cert=certificate, client_verify=True),
            "custom_ca is missing",
        ),
        "client CA is not PEM": (
            _ssl_config(server_key=key, server_cert=certificate, client_verify=True, custom_ca="c"),
            "custom_ca is not a PEM certificate",
        ),
    }


@pytest.mark.parametrize("case", _invalid_files())
def test_error_names_the_file_and_never_quotes_it(case: str, tmp_path: Path) -> None:
    text, message = _invalid_files()[case]
    file = tmp_path / "tls.txt"
    file.write_text(text)
    with pytest.raises(UnusableFile, match=message) as raised:
        tls.credentials(file)
    assert str(file) in str(raised.value)
    printed = "".join(traceback.format_exception(raised.value))
    assert "PRIVATE KEY" not in printed
    assert _SECRET_LINE not in printed


def test_missing_file_fails_at_startup(
    tmp_path: Path, command: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    # The file is read before the server waits for a model.
    arguments = ["--models-dir", str(tmp_path), "--port", "0"]
    assert command([*arguments, "--ssl-config-file", str(tmp_path / "nowhere")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --ssl-config-file ")
    assert "No such file" in error
