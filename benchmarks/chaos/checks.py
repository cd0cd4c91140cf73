"""Figures of a scenario, and the bounds that they have to keep."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.chaos.outcomes import Outcome, summarise


@dataclass(frozen=True)
class Check:
    """One line of the report; without a ``bound``, the figure is information only."""

    what: str
    measured: str
    bound: str = ""
    held: bool = True


class ScenarioError(Exception):
    """A scenario cannot be run, for example because a program is not installed."""


def require(outcomes: Sequence[Outcome], when: str) -> Sequence[Outcome]:
    """Return the outcomes, which a check is about to judge.

    Raises:
        ScenarioError: there are none, so that every check of them would hold.
    """
    if not outcomes:
        raise ScenarioError(f"no request was sent {when}: the machine is too busy")
    return outcomes


def at_most(what: str, value: float, bound: float, unit: str, digits: int = 0) -> Check:
    """Check that ``value`` is not above ``bound``."""
    text = f"at most {bound:,.{digits}f} {unit}"
    return Check(what, f"{value:,.{digits}f} {unit}", text, value <= bound)


def at_least(what: str, value: float, bound: float, unit: str, digits: int = 0) -> Check:
    """Check that ``value`` is not below ``bound``."""
    text = f"at least {bound:,.{digits}f} {unit}"
    return Check(what, f"{value:,.{digits}f} {unit}", text, value >= bound)


def no_requests(what: str, outcomes: Sequence[Outcome]) -> Check:
    """Check that there are no such outcomes; otherwise the check summarises them."""
    return Check(what, summarise(outcomes), "0", not outcomes)


def all_ended_with(what: str, outcomes: Sequence[Outcome], codes: Iterable[str]) -> Check:
    """Check that each of the outcomes has one of the statuses ``codes``."""
    allowed = set(codes)
    others = [one for one in outcomes if one.code not in allowed]
    measured = summarise(others) if others else f"{len(outcomes):,} of {len(outcomes):,}"
    return Check(what, measured, "all", not others)


def expect(what: str, held: bool, measured: str, expected: str) -> Check:
    """Check any other condition, which was evaluated by the caller."""
    return Check(what, measured, expected, held)


def information(what: str, measured: str) -> Check:
    """Report a figure without a bound."""
    return Check(what, measured)
