"""Settings as fields of frozen dataclasses that cannot hold an invalid value.

    @dataclass(frozen=True)
    class TrainingConfig(Validated):
        epochs: int = setting(50, "Maximum number of passes over the rows.", low=1, high=10_000)

    TrainingConfig(epochs=-1)   # ValueError: epochs must be from 1 to 10000, not -1

All programs share this module, which uses the standard library only.
"""

import dataclasses
import difflib
import math
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

_METADATA_KEY = "setting"
_MAX_SHOWN_CHARACTERS = 200


@dataclasses.dataclass(frozen=True)
class Rule:
    """The description of a setting, and its valid values.

    Attributes:
        help: One or more sentences for users, including the unit.
        low: The smallest valid number.
        high: The largest valid number.
        above: An exclusive lower bound: every valid number is greater.
        choices: The only valid strings, or () if any string is valid. The choices of a
            ``Literal`` field are the values of its type.
        required: True if an empty string is invalid.
    """

    help: str
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    choices: tuple[str, ...] = ()
    required: bool = False


def setting(default: Any, help: str, **rule: Any) -> Any:  # noqa: A002
    """Return a dataclass field with a default value and the attributes of a :class:`Rule`."""
    return dataclasses.field(default=default, metadata={_METADATA_KEY: Rule(help, **rule)})


def rule_of(field: "dataclasses.Field[Any]") -> Rule:
    """Return the rule of a field that was created by :func:`setting`."""
    rule: Rule = field.metadata[_METADATA_KEY]
    return rule


class Validated:
    """Base class of frozen dataclasses whose fields are checked when an object is created.

    Fields may be ``int``, ``float``, ``bool``, ``str``, ``tuple[str, ...]``, a ``Literal`` of
    strings, or another class. Numbers must be finite. A float field also accepts
    an int, and a tuple field a list; these are converted.

    Raises:
        ValueError: A value has the wrong type, is out of range or is not one of the choices. The
            message names the field, the valid values and the invalid one.
    """

    def __post_init__(self) -> None:
        """Check every field. A subclass that checks combinations of fields calls this first."""
        types = get_type_hints(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            rule = field.metadata.get(_METADATA_KEY, Rule(""))
            value = getattr(self, field.name)
            try:
                validated = _validated(value, types[field.name], rule)
            except ValueError as error:
                raise ValueError(f"{self.display_name(field.name)} {error}") from None
            object.__setattr__(self, field.name, validated)

    @classmethod
    def display_name(cls, field_name: str) -> str:
        """Return the name of a field for error messages. A subclass may return a flag instead."""
        return field_name


def read_text(field: "dataclasses.Field[Any]", text: str) -> Any:
    """Convert the text from a command line or an environment variable to a field's type.

    A bool is written yes, true, 1, no, false or 0, and a tuple as values separated by commas.

    Raises:
        ValueError: The text cannot be converted. The range is not checked here.
    """
    kind: Any = type(field.default)
    if kind is bool:
        if text.lower() in ("1", "true", "yes", "0", "false", "no"):
            return text.lower() in ("1", "true", "yes")
        raise ValueError(f"must be yes or no, not {shown(text)}")
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"must be {_TYPE_NAMES[kind]}, not {shown(text)}") from None


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return ``; did you mean 'epochs'?`` for a misspelt name, or "" if none is similar."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {prefix + matches[0]!r}?" if matches else ""


def shown(value: object) -> str:
    """Return the ``repr`` of a value for an error message, cut off after 200 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print numbers of more than 4,300 digits.
        return "a number that is too large"
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}..."


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _validated(value: Any, kind: Any, rule: Rule) -> Any:
    """Return ``value`` as an object of type ``kind``. Raise ValueError if it breaks the rule."""
    choices = rule.choices
    if get_origin(kind) is Literal:
        kind, choices = str, get_args(kind)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not all(type(part) is str for part in value):
            raise ValueError(f'must be a list of strings, like ["a", "b"], not {shown(value)}')
        return tuple(_validated(part, str, rule) for part in value)
    if kind not in _TYPE_NAMES:
        if not isinstance(value, kind):
            raise ValueError(f"must be of type {kind.__name__}, not {shown(value)}")
        return value
    if choices and value not in choices:
        near = suggestion(value, choices) if isinstance(value, str) else ""
        raise ValueError(f"must be {_either(choices)}, not {shown(value)}{near}")
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"must be {_TYPE_NAMES[kind]}, not {shown(value)}")
    if rule.required and value == "":
        raise ValueError("must not be empty")
    if kind in (int, float):
        try:
            valid = rule.low <= value <= rule.high and value > rule.above and math.isfinite(value)
        except OverflowError:  # The int is too large for a float.
            valid = False
        if not valid:
            raise ValueError(f"must be {_range(rule)}, not {shown(value)}")
    return kind(value)


def _either(choices: tuple[str, ...]) -> str:
    """Return the choices in words, for example ``text, json or none``."""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def _range(rule: Rule) -> str:
    """Return the valid numbers in words: ``from 0 to 1``, ``at least 1``, ``above 0``."""
    low, high, above = (
        str(bound) if isinstance(bound, int) else f"{bound:g}"
        for bound in (rule.low, rule.high, rule.above)
    )
    if rule.above > -math.inf:
        return f"above {above}" + (f" and at most {high}" if rule.high < math.inf else "")
    if rule.low > -math.inf and rule.high < math.inf:
        return f"from {low} to {high}"
    if rule.low > -math.inf:
        return f"at least {low}"
    return f"at most {high}" if rule.high < math.inf else "a finite number"
