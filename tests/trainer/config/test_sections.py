from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from config_fields import rule_of
from trainer.config import Config, IndexConfig, ModelConfig, TrainingConfig


def test_invalid_section_cannot_be_constructed() -> None:
    with pytest.raises(ValueError, match=r"training\.epochs must be from 1 to 10000, not -1"):
        TrainingConfig(epochs=-1)
    with pytest.raises(ValueError, match=r"model\.normalize must be true or false, not 'yes'"):
        ModelConfig(normalize="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"index\.target_recall must be from 0 to 1, not nan"):
        replace(IndexConfig(), target_recall=float("nan"))


def test_section_of_the_wrong_class_is_refused() -> None:
    with pytest.raises(ValueError, match="split must be of type SplitConfig"):
        Config(split=ModelConfig())  # type: ignore[arg-type]


def test_every_setting_is_described_in_a_full_sentence() -> None:
    sections: list[Any] = [field.type for field in fields(Config) if is_dataclass(field.type)]
    assert len(sections) == 6
    for section in sections:
        for field in fields(section):
            text = rule_of(field).help
            assert text[0].isupper(), (field.name, text)
            assert text.endswith("."), (field.name, text)
