from pathlib import Path

import pytest

from trainer.data import movielens, source
from trainer.errors import DataError, DataUnavailable


def test_auto_falls_back_to_synthetic_data_with_a_notice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise DataUnavailable("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(movielens, "load", unavailable)
    notices: list[str] = []
    assert source.load("auto", notify=notices.append).name == "synthetic"
    assert "SYNTHETIC" in notices[0]
    with pytest.raises(DataError, match="movielens-100k, synthetic"):
        source.load("movielens", notify=notices.append)
