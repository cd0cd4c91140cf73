from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import pytest

from config_fields import Validated, read_text, rule_of, setting, shown, suggestion


@dataclass(frozen=True)
class Inner(Validated):
    depth: int = setting(1, "Depth of the tree.", low=1, high=9)


@dataclass(frozen=True)
class Example(Validated):
    count: int = setting(3, "Number of things.", low=0, high=10)
    size: int = setting(1, "Size in bytes.", low=1)
    share: float = setting(0.5, "Share of the rows.", low=0, high=1)
    timeout_s: float = setting(1.0, "Longest wait in seconds.", above=0)
    delta: float = setting(0.0, "Any number.")
    on: bool = setting(False, "Switches it on.")
    kind: Literal["fast", "exact", "auto"] = setting("auto", "Algorithm.")
    mode: str = setting("text", "Format.", choices=("text", "json"))
    host: str = setting("localhost", "Address.", required=True)
    names: tuple[str, ...] = setting((), "Columns.")
    modes: tuple[str, ...] = setting((), "Formats.", choices=("text", "json"))
    inner: Inner = Inner()


@dataclass(frozen=True)
class Flags(Validated):
    timeout_s: float = setting(1.0, "Longest wait in seconds.", above=0)

    @classmethod
    def display_name(cls, field_name: str) -> str:
        return "--" + field_name.replace("_", "-")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": -1}, "count must be from 0 to 10, not -1"),
        ({"count": 11}, "count must be from 0 to 10, not 11"),
        ({"count": 2.0}, "count must be a whole number, not 2.0"),
        ({"count": True}, "count must be a whole number, not True"),
        ({"count": None}, "count must be a whole number, not None"),
        ({"size": 0}, "size must be at least 1, not 0"),
        ({"size": 10**5000}, "size must be at least 1, not a number that is too large"),
        ({"share": 1.01}, "share must be from 0 to 1, not 1.01"),
        ({"share": float("nan")}, "share must be from 0 to 1, not nan"),
        ({"timeout_s": 0}, "timeout_s must be above 0, not 0"),
        ({"timeout_s": float("inf")}, "timeout_s must be above 0, not inf"),
        ({"delta": float("nan")}, "delta must be a finite number, not nan"),
        ({"on": 1}, "on must be true or false, not 1"),
        ({"kind": "exactt"}, "kind must be fast, exact or auto, not 'exactt'"),
        ({"kind": "exactt"}, "did you mean 'exact'?"),
        ({"kind": ["exact"]}, "kind must be fast, exact or auto, not ['exact']"),
        ({"mode": "xml"}, "mode must be text or json, not 'xml'"),
        ({"host": ""}, "host must not be empty"),
        ({"host": 3}, "host must be text, not 3"),
        ({"names": "year"}, """names must be a list of strings, like ["a", "b"], not 'year'"""),
        ({"names": [1]}, "names must be a list of strings"),
        ({"modes": ["text", "xml"]}, "modes must be text or json, not 'xml'"),
        ({"inner": 3}, "inner must be of type Inner, not 3"),
    ],
)
def test_invalid_values_cannot_be_constructed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Example(**changes)
    assert message in str(error.value)
    with pytest.raises(ValueError):  # noqa: PT011
        replace(Example(), **changes)


def test_limits_of_ranges_are_valid() -> None:
    assert Example(count=10, share=0.0, timeout_s=1e-9).count == 10


def test_values_are_converted_to_the_types_of_their_fields() -> None:
    example = Example(share=1, names=["a"])  # type: ignore[arg-type]
    assert (type(example.share), example.names) == (float, ("a",))


def test_messages_use_the_display_names_of_the_class() -> None:
    with pytest.raises(ValueError, match=r"^--timeout-s must be above 0, not -1$"):
        Flags(timeout_s=-1)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "7", 7),
        ("timeout_s", "0.5", 0.5),
        ("on", "Yes", True),
        ("on", "0", False),
        ("mode", "json", "json"),
        ("names", "a, b,", ("a", "b")),
    ],
)
def test_text_is_converted_to_the_type_of_the_field(name: str, text: str, value: object) -> None:
    field = {field.name: field for field in fields(Example)}[name]
    assert read_text(field, text) == value
    assert rule_of(field).help


@pytest.mark.parametrize(("name", "expected"), [("count", "a whole number"), ("on", "yes or no")])
def test_text_of_another_type_is_an_error(name: str, expected: str) -> None:
    field = {field.name: field for field in fields(Example)}[name]
    with pytest.raises(ValueError, match=f"must be {expected}, not 'x'"):
        read_text(field, "x")


def test_suggestion_names_the_most_similar_name() -> None:
    assert suggestion("epoch", ["epochs", "seed"]) == "; did you mean 'epochs'?"
    assert suggestion("epoch", ["epochs"], "training.") == "; did you mean 'training.epochs'?"
    assert suggestion("zzz", ["epochs"]) == ""


def test_long_values_are_cut_off_in_messages() -> None:
    assert len(shown("x" * 1000)) == 203
