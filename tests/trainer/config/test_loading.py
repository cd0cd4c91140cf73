import json
from pathlib import Path

import pytest

from trainer import config
from trainer.errors import ConfigError


def test_set_changes_single_settings_of_a_preset() -> None:
    changed = config.load("tutorial", ["training.epochs=5", "split.kind=temporal"], seed=7)
    assert (changed.training.epochs, changed.split.kind, changed.seed) == (5, "temporal", 7)
    assert changed.training.batch_size == config.PRESETS["tutorial"].training.batch_size


def test_file_is_based_on_the_preset_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('preset = "tutorial"\n[model]\nembedding_dim = 16\n')
    loaded = config.load(str(file))
    assert (loaded.model.embedding_dim, loaded.training.optimizer) == (16, "adagrad")


def test_lists_of_strings_become_tuples(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[model]\nitem_features = ["auto", "year:category"]\n')
    assert config.load(str(file)).model.item_features == ("auto", "year:category")
    assert config.load("default", ["model.item_features=[]"]).model.item_features == ()


@pytest.mark.parametrize("preset", config.PRESETS)
def test_dict_of_a_preset_survives_json(preset: str) -> None:
    values = config.as_dict(config.PRESETS[preset])
    decoded = json.loads(json.dumps(values))
    assert decoded == values, "JSON has no tuples, so the dict must not have any"
    assert config.from_dict(decoded) == config.PRESETS[preset]


def test_queries_must_not_be_empty() -> None:
    with pytest.raises(ConfigError, match=r"would be empty: model\.history_length is 0"):
        config.load("default", ["model.history_length=0"])
    with pytest.raises(ConfigError, match="queries would be empty"):
        config.load("tutorial", ["model.user_id=false"])
    for remedy in ("model.user_id=true", 'model.user_features=["auto"]'):
        assert config.load("default", ["model.history_length=0", remedy])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epoch=3", "did you mean 'training.epochs'"),
        ("trainin.epochs=3", "did you mean 'training'"),
        ("training.epochs.more=3", "training.epochs must be a whole number"),
        ("training.epochs=0", "training.epochs must be from 1 to 10000, not 0"),
        ("training.epochs=2.5", "must be a whole number, not 2.5"),
        ("training.learning_rate=nan", "training.learning_rate must be from 1e-07 to 10, not nan"),
        ("model.normalize=1", "must be true or false"),
        ("split.kind=randm", "must be random, temporal or temporal_per_user, not 'randm'; did"),
        ("training=3", "training is a section"),
        ("training.epochs", "section.key=value"),
        ("model.item_features=year", 'model.item_features must be a list of strings, like \\["a"'),
        ("model.user_features=[1]", "model.user_features must be a list of strings"),
        ("item_to_item.batch_size=1", "item_to_item.batch_size must be at least 2, not 1"),
    ],
)
def test_error_names_the_setting_and_its_valid_values(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load("default", [setting])


def test_unknown_preset_suggests_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'tutorial'"):
        config.load("tutorail")


def test_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[training]\nepochs = 0\n")
    with pytest.raises(ConfigError, match=r"mine\.toml: training\.epochs must be from 1"):
        config.load(str(file))
