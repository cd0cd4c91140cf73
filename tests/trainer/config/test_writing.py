import tomllib
from pathlib import Path

import pytest

from trainer import config


@pytest.mark.parametrize("preset", config.PRESETS)
@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["training.learning_rate=1e-07", "training.logq_correction=false", "seed=7"],
        ['model.item_features=["a\\"b:tags", "ü"]', "split.kind=temporal", "index.leaves=9"],
    ],
)
def test_written_file_restores_the_configuration(
    preset: str, settings: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    loaded = config.load(preset, settings)
    config.write(file, loaded, ["Two lines", "[above] = it"])
    assert config.load(str(file)) == loaded


def test_written_file_has_only_the_settings_that_differ_from_the_default(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    config.write(file, config.load("default", ["training.epochs=7"]))
    assert tomllib.loads(file.read_text()) == {"training": {"epochs": 7}}


def test_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(OSError, match=r"mine\.toml"):
        config.write(tmp_path / "mine.toml", config.load())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]
