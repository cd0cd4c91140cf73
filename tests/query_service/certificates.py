"""Certificate files for tests, issued by authorities made for the tests."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import trustme

#: The name in the certificates of the services under test.
NAME = "127.0.0.1"
_AN_HOUR_AGO = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key."""

    cert: Path
    key: Path

    @property
    def pem(self) -> tuple[bytes, bytes]:
        """The content of both files."""
        return self.cert.read_bytes(), self.key.read_bytes()

    def replace_with(self, other: Pair) -> None:
        """Replace both files with those of another pair, by one rename after the other."""
        for ours, theirs in ((self.cert, other.cert), (self.key, other.key)):
            new = ours.with_suffix(".new")
            new.write_bytes(theirs.read_bytes())
            new.replace(ours)


class Authority:
    """Issues certificates into a directory of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._ca = trustme.CA()
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    @property
    def pem(self) -> bytes:
        return self.file.read_bytes()

    def issue(self, stem: str, name: str = NAME, *, expired: bool = False) -> Pair:
        issued = self._ca.issue_cert(name, not_after=_AN_HOUR_AGO if expired else None)
        chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
        return self._write(stem, chain, issued.private_key_pem.bytes())

    def self_signed(self) -> Pair:
        """Return the certificate of the authority itself."""
        return self._write("self", self.pem, self._ca.private_key_pem.bytes())

    def _write(self, stem: str, cert: bytes, key: bytes) -> Pair:
        pair = Pair(self._directory / f"{stem}.crt", self._directory / f"{stem}.key")
        pair.cert.write_bytes(cert)
        pair.key.write_bytes(key)
        return pair
