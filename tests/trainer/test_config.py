import json
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from trainer import config


def test_settings_change_single_fields_of_a_preset() -> None:
    made = config.load("tutorial", ["training.epochs=5", "split.kind=temporal"], seed=7)
    assert (made.training.epochs, made.split.kind, made.seed) == (5, "temporal", 7)
    assert made.training.batch_size == config.PRESETS["tutorial"].training.batch_size


def test_a_file_names_its_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('preset = "tutorial"\n[model]\nembedding_dim = 16\n')
    made = config.load(str(file))
    assert (made.model.embedding_dim, made.training.optimizer) == (16, "adagrad")


def test_lists_of_words(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[model]\nitem_features = ["auto", "year:category"]\n')
    assert config.load(str(file)).model.item_features == ("auto", "year:category")
    assert config.load("default", ["model.item_features=[]"]).model.item_features == ()


@pytest.mark.parametrize("preset", config.PRESETS)
def test_every_preset_is_within_its_own_ranges(preset: str) -> None:
    values = config.as_dict(config.PRESETS[preset])
    assert json.loads(json.dumps(values)) == values, "as a report and a manifest give it back"
    settings = [
        f"{section}.{key}={json.dumps(value)}"
        for section, group in values.items()
        if isinstance(group, dict)
        for key, value in group.items()
    ]
    assert config.load("default", settings) == config.PRESETS[preset]


def test_queries_are_made_of_something() -> None:
    with pytest.raises(config.ConfigError, match=r"made of nothing: model\.history_length is 0"):
        config.load("default", ["model.history_length=0"])
    with pytest.raises(config.ConfigError, match="made of nothing"):
        config.load("tutorial", ["model.user_id=false"])
    for other in ("model.user_id=true", 'model.user_features=["auto"]'):
        assert config.load("default", ["model.history_length=0", other])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epoch=3", "did you mean 'training.epochs'"),
        ("trainin.epochs=3", "did you mean 'training'"),
        ("training.epochs=0", "training.epochs must be 1 to"),
        ("training.epochs=2.5", "must be a whole number"),
        ("training.learning_rate=nan", "must be"),
        ("model.normalize=1", "must be true or false"),
        ("split.kind=randm", "must be one of random"),
        ("training=3", "is a section"),
        ("training.epochs", "section.key=value"),
        ("model.item_features=year", 'model.item_features must be a list of words, \\["like"'),
        ("model.user_features=[1]", "model.user_features must be a list of words"),
        ("training.objective=full", "must be one of auto, full_softmax"),
        ("item_to_item.batch_size=1", "item_to_item.batch_size must be 2 to"),
    ],
)
def test_what_is_wrong_is_named(setting: str, message: str) -> None:
    with pytest.raises(config.ConfigError, match=message):
        config.load("default", [setting])


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(config.ConfigError, match="did you mean 'tutorial'"):
        config.load("tutorail")


def test_every_field_has_a_sentence() -> None:
    sections = [field.type for field in fields(config.Config) if is_dataclass(field.type)]
    assert len(sections) == 6
    for section in sections:
        assert all(field.metadata["text"].strip() for field in fields(section))  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", config.PRESETS)
@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["training.learning_rate=1e-07", "training.logq_correction=false", "seed=7"],
        ['model.item_features=["a\\"b:tags", "ü"]', "split.kind=temporal", "index.leaves=9"],
    ],
)
def test_what_is_written_is_read_again(preset: str, settings: list[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    made = config.load(preset, settings)
    config.write(file, made, preset, ["Two lines", "[above] = it"])
    assert config.load(str(file)) == made
    assert config.preset_of(str(file)) == preset
    assert len(tomllib.loads(file.read_text())) <= 1 + len(settings), "only what differs"


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(OSError, match=r"mine\.toml"):
        config.write(tmp_path / "mine.toml", config.load(), "default")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]
