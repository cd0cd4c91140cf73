from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import config
from trainer.errors import ConfigError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "can't decode byte 0xff"),
        (b"\0", "line 1, column 1"),
        (b"x = " + b"[" * 100_000, "nested too deeply"),
        (b"seed = " + b"9" * 5_000, "4300 digits"),
        (b"seed = 0x" + b"f" * 5_000, "seed must be from 0 to"),
        (
            b"[training]\nlearning_rate = 0x" + b"f" * 5_000,
            "learning_rate must be from 1e-07 to 10",
        ),
        (b"[training]\nlearning_rate = nan", "learning_rate must be from 1e-07 to 10, not nan"),
        (b"[split]\nkind = 0x" + b"f" * 5_000, "split.kind must be random, temporal"),
        (b"preset = [1]", "unknown preset [1]"),
        (b"[[training]]\nepochs = 1", "training is a section"),
        (b"training = 1979-05-27", "training is a section"),
        (b"a." * 5_000 + b"a = 1", "unknown setting 'a'"),
        (b"#" * 2_000_000, "more than 1,000,000 bytes"),
    ],
)
def test_malformed_file_is_reported_in_one_short_message(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        config.load(str(path))
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(path))
    assert len(str(raised.value)) < 1_000


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf[training]\r\nepochs = 5\r\n")
    assert config.load(str(path)).training.epochs == 5


@settings(max_examples=100)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_key_and_value_is_accepted_or_refused_with_config_error(key: str, value: str) -> None:
    for name in (key, f"training.{key}", "seed", "split.kind", "training.learning_rate"):
        try:
            config.load("default", [f"{name}={value}"])
        except ConfigError as error:
            assert str(error)  # noqa: PT017
