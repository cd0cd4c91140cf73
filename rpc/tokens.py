"""The token file: TOML, one table per caller, with the SHA-256 of the caller's token.

[web]
token_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
requests_per_s = 200  # optional
"""

import hashlib
import hmac
import math
import re
import secrets
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rpc.errors import UnusableFile

_DIGEST = "token_sha256"
_RATE = "requests_per_s"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
_TOKEN_BYTES = 32


@dataclass(frozen=True)
class TokenEntry:
    """A caller's name, the SHA-256 of its token, and its rate limit, which is None if unlimited."""

    name: str
    digest: bytes
    requests_per_s: float | None


def new_token(name: str) -> tuple[str, str]:
    """Return a random token for the caller ``name``, and the lines to add to the token file.

    Raises:
        ValueError: The name has characters other than letters, digits, ``_`` and ``-``.
    """
    if not _BARE_KEY.fullmatch(name):
        raise ValueError(f"a caller's name must consist of letters, digits, _ and -, not {name!r}")
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    return token, f'[{name}]\n{_DIGEST} = "{digest(token).hex()}"'


def digest(token: str) -> bytes:
    """Return the SHA-256 of a token. A random token cannot be guessed, so a fast hash is enough."""
    return hashlib.sha256(token.encode()).digest()


def find_entry(entries: Iterable[TokenEntry], token: str) -> TokenEntry | None:
    """Return the entry for a token, or None. Every entry is compared, each in constant time."""
    token_digest = digest(token)
    match = None
    for entry in entries:
        if hmac.compare_digest(entry.digest, token_digest):
            match = entry
    return match


def parse(data: bytes, path: str) -> list[TokenEntry]:
    """Return the entries of a token file.

    Raises:
        UnusableFile: The file is malformed or empty.
    """
    try:
        tables = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnusableFile(f"{path}: {error}") from error
    entries = [_parse_entry(name, table, path) for name, table in tables.items()]
    if not entries:
        raise UnusableFile(f"{path}: the file holds no token")
    names = {entry.digest: entry.name for entry in entries}
    for entry in entries:
        if names[entry.digest] != entry.name:
            raise UnusableFile(
                f"{path}: [{entry.name}] and [{names[entry.digest]}] have the same token"
            )
    return entries


def _parse_entry(name: str, table: Any, path: str) -> TokenEntry:
    """Return one caller's entry. Errors never show a value, because it may be a misplaced token."""
    where = f"{path}: [{name}]"
    if not isinstance(table, dict):
        raise UnusableFile(f"{path}: {name} must be a table, [{name}]")
    if unknown := set(table) - {_DIGEST, _RATE}:
        raise UnusableFile(
            f"{where}: unknown setting {min(unknown)}; use only {_DIGEST} and {_RATE}"
        )
    sha256, rate = table.get(_DIGEST), table.get(_RATE)
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise UnusableFile(f"{where}: {_DIGEST} must be 64 hexadecimal digits")
    if rate is not None and (
        not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate < math.inf
    ):
        raise UnusableFile(f"{where}: {_RATE} must be a number greater than 0")
    return TokenEntry(name, bytes.fromhex(sha256), rate)
