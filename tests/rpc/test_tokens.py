"""The token file is parsed, and wrong files are refused."""

import pytest

from rpc import tokens
from rpc.errors import UnusableFile

_TOKEN = "a-token-of-web"


def table(name: str, token: str, rate: float | None = None) -> str:
    """Return the lines of a caller in the token file."""
    limit = f"requests_per_s = {rate}\n" if rate else ""
    return f'[{name}]\ntoken_sha256 = "{tokens.digest(token).hex()}"\n{limit}'


def test_keys_are_read_from_the_file() -> None:
    text = table("web", _TOKEN, 5) + table("batch", "another")
    web, batch = tokens.parse(text.encode(), "tokens.toml")
    assert (web.name, web.digest, web.requests_per_s) == ("web", tokens.digest(_TOKEN), 5)
    assert (batch.name, batch.requests_per_s) == ("batch", None)
    assert tokens.find_entry([web, batch], "another") is batch
    assert tokens.find_entry([web, batch], "unknown") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file holds no token"),
        ("[web", "Expected ']'"),
        ("web = 1", "web must be a table"),
        ("[web]", "[web]: token_sha256 must be 64 hexadecimal digits"),
        ('[web]\ntoken_sha256 = "secret"', "[web]: token_sha256 must be 64 hexadecimal digits"),
        ("[web]\ntoken_sha256 = 1", "[web]: token_sha256 must be 64 hexadecimal digits"),
        (
            '[web]\ntoken = "secret"',
            "[web]: unknown setting token; use only token_sha256 and requests_per_s",
        ),
        (table("web", _TOKEN, -1), "[web]: requests_per_s must be a number greater than 0"),
        (table("web", _TOKEN) + "requests_per_s = 0", "[web]: requests_per_s must be a number"),
        (table("web", _TOKEN) + "requests_per_s = true", "[web]: requests_per_s must be"),
        (table("web", _TOKEN) + "requests_per_s = inf", "[web]: requests_per_s must be"),
        (table("web", _TOKEN) + table("two", _TOKEN), "[web] and [two] have the same token"),
        (table("web", _TOKEN) + table("web", "another"), "line 3"),
    ],
)
def test_wrong_file_is_refused_without_showing_its_values(text: str, message: str) -> None:
    with pytest.raises(UnusableFile) as raised:
        tokens.parse(text.encode(), "tokens.toml")
    assert str(raised.value).startswith("tokens.toml: ")
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)


def test_new_tokens_are_random_and_fit_the_file() -> None:
    token, lines = tokens.new_token("web")
    assert len(token) >= 43
    assert tokens.new_token("web")[0] != token
    [key] = tokens.parse(lines.encode(), "tokens.toml")
    assert tokens.find_entry([key], token) is key


def test_names_of_callers_are_restricted() -> None:
    with pytest.raises(ValueError, match="letters, digits, _ and -, not 'a name'"):
        tokens.new_token("a name")
