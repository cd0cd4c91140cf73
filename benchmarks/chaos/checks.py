"""What a scenario claims: a figure, and the bound that it has to keep."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.chaos.outcomes import Outcome, described


@dataclass(frozen=True)
class Check:
    """One line of the report. ``bound`` is empty where the figure is only told."""

    what: str
    measured: str
    bound: str = ""
    held: bool = True


class Broken(Exception):
    """A scenario could not be played: what it needs does not start, or does not exist."""


def some(found: Sequence[Outcome], what: str) -> Sequence[Outcome]:
    """They themselves, of which something is to be said.

    Raises:
        Broken: there are none, and anything could be said.
    """
    if not found:
        raise Broken(f"no request was sent {what}: the machine has too much to do")
    return found


def at_most(what: str, value: float, bound: float, unit: str, digits: int = 0) -> Check:
    """``value`` is not above ``bound``."""
    return Check(
        what, f"{value:,.{digits}f} {unit}", f"at most {bound:,.{digits}f} {unit}", value <= bound
    )


def at_least(what: str, value: float, bound: float, unit: str, digits: int = 0) -> Check:
    """``value`` is not below ``bound``."""
    return Check(
        what, f"{value:,.{digits}f} {unit}", f"at least {bound:,.{digits}f} {unit}", value >= bound
    )


def none(what: str, found: Sequence[Outcome]) -> Check:
    """There are no such requests; where there are, the first ones are described."""
    return Check(what, described(found), "0", not found)


def all_of(what: str, found: Sequence[Outcome], codes: Iterable[str]) -> Check:
    """Each of them ended with one of these statuses."""
    allowed = set(codes)
    others = [one for one in found if one.code not in allowed]
    measured = described(others) if others else f"{len(found):,} of {len(found):,}"
    return Check(what, measured, "all", not others)


def holds(what: str, held: bool, measured: str, bound: str) -> Check:
    """Anything else."""
    return Check(what, measured, bound, held)


def told(what: str, measured: str) -> Check:
    """A figure without a bound: what the others are read against."""
    return Check(what, measured)
