"""TLS from TensorFlow Serving's SSLConfig file, over real sockets."""

import json
import subprocess
import sys
import traceback
from pathlib import Path

import grpc
import pytest
import trustme

from model_server import tls
from tests.conftest import ROOT
from tests.model_server.conftest import Serve, Stubs, predict_request, save_version


def _text(**fields: object) -> str:
    """An SSLConfig; a JSON string is one of the text format too."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items())


def _pair(authority: trustme.CA) -> tuple[bytes, bytes]:
    """Key and certificate, for 127.0.0.1."""
    issued = authority.issue_cert("127.0.0.1")
    return issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()


def _config(file: Path, authority: trustme.CA, **more: object) -> Path:
    key, certificate = _pair(authority)
    file.write_text(_text(server_key=key.decode(), server_cert=certificate.decode(), **more))
    return file


def _greeted(port: int, credentials: grpc.ChannelCredentials | None) -> str:
    stubs = Stubs(port, credentials)
    try:
        answer = stubs.predict(predict_request(), timeout=10)
        return str(answer.outputs["greeting"].string_val[0].decode())
    finally:
        stubs.channel.close()


def _refused(port: int, credentials: grpc.ChannelCredentials | None) -> bool:
    with pytest.raises(grpc.RpcError) as raised:
        _greeted(port, credentials)
    return bool(raised.value.code() == grpc.StatusCode.UNAVAILABLE)


def _trusting(authority: trustme.CA, pair: tuple[bytes, bytes] | None = None) -> object:
    root = authority.cert_pem.bytes()
    return grpc.ssl_channel_credentials(root, *(pair or ()))


def test_who_trusts_the_certificate_is_answered(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1)
    ours, other = trustme.CA(), trustme.CA()
    _, server = serve(tmp_path, ssl_config_file=_config(tmp_path / "tls.txt", ours))
    assert _greeted(server.port, _trusting(ours)) == "Hello Ada"
    assert _refused(server.port, _trusting(other))
    assert _refused(server.port, None)


def test_a_client_shows_a_certificate_where_it_must(tmp_path: Path, serve: Serve) -> None:
    save_version(tmp_path, 1)
    ours, clients = trustme.CA(), trustme.CA()
    ca = "# Főtanúsítvány\n" + clients.cert_pem.bytes().decode()
    file = _config(tmp_path / "tls.txt", ours, custom_ca=ca, client_verify=True)
    _, server = serve(tmp_path, ssl_config_file=file)
    assert _greeted(server.port, _trusting(ours, _pair(clients))) == "Hello Ada"
    assert _refused(server.port, _trusting(ours))
    # Signed by the wrong one: what is good for servers is not good for clients.
    assert _refused(server.port, _trusting(ours, _pair(ours)))


_SECRET_LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw"


def _broken() -> dict[str, tuple[str, str]]:
    key, certificate = (text.decode() for text in _pair(trustme.CA()))
    other, _ = (text.decode() for text in _pair(trustme.CA()))
    return {
        "not the format": ("server_key: 'a'\nserver_cart: 'b'\n", "no SSLConfig"),
        # A key as it is in a file, its lines not escaped: the parser's message quotes one.
        "a key without quotes": (f"server_key: {_SECRET_LINE}\n", "text format, line 1$"),
        "a key that does not end": (f'server_key: "{_SECRET_LINE}\n', "text format, line 1$"),
        "a key alone": (f"{_SECRET_LINE}\n", "text format, line 1$"),
        "no key": (_text(server_cert=certificate), "server_key is missing"),
        "no certificate": (_text(server_key=key), "server_cert is missing"),
        "a key of another": (_text(server_key=other, server_cert=certificate), "are no pair"),
        "no PEM": (_text(server_key="a", server_cert="b"), "are no pair"),
        "no CA of clients": (
            _text(server_key=key, server_cert=certificate, client_verify=True),
            "custom_ca is missing",
        ),
        "a CA that is none": (
            _text(server_key=key, server_cert=certificate, client_verify=True, custom_ca="c"),
            "custom_ca is no certificate",
        ),
    }


@pytest.mark.parametrize("case", _broken())
def test_a_broken_file_is_said_without_what_is_in_it(case: str, tmp_path: Path) -> None:
    text, said = _broken()[case]
    file = tmp_path / "tls.txt"
    file.write_text(text)
    with pytest.raises(tls.TlsError, match=said) as raised:
        tls.credentials(file)
    assert str(file) in str(raised.value)
    shown = "".join(traceback.format_exception(raised.value))
    assert "PRIVATE KEY" not in shown
    assert _SECRET_LINE not in shown


def test_a_missing_file_ends_the_server_at_once(tmp_path: Path) -> None:
    # No model is there either: it does not wait for one.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "model_server", "--models-dir", str(tmp_path), "--port", "0"),
            *("--ssl-config-file", str(tmp_path / "nowhere")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: --ssl-config-file ")
    assert "No such file" in done.stderr
