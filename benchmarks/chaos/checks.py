"""Figures of a scenario, and the bounds that they have to keep."""

from dataclasses import dataclass

import pandas as pd

from benchmarks.chaos.outcomes import summarise


@dataclass(frozen=True)
class Check:
    """One line of the report; without a ``bound``, the figure is information only."""

    what: str
    measured: str
    bound: str = ""
    held: bool = True


class ScenarioError(Exception):
    """A scenario cannot be run, for example because a program is not installed."""


def require(outcomes: pd.DataFrame, when: str) -> pd.DataFrame:
    """Return the outcomes, which a check is about to judge.

    Raises:
        ScenarioError: there are none, so that every check of them would hold.
    """
    if outcomes.empty:
        raise ScenarioError(f"no request was sent {when}: the machine is too busy")
    return outcomes


def at_most(what: str, value: float, bound: float, unit: str, digits: int = 0) -> Check:
    """Check that ``value`` is not above ``bound``."""
    text = f"at most {bound:,.{digits}f} {unit}"
    return Check(what, f"{value:,.{digits}f} {unit}", text, bool(value <= bound))


def at_least(what: str, value: float, bound: float, unit: str) -> Check:
    """Check that ``value`` is not below ``bound``."""
    return Check(
        what, f"{value:,.0f} {unit}", f"at least {bound:,.0f} {unit}", bool(value >= bound)
    )


def equal(what: str, measured: object, expected: object) -> Check:
    """Check that ``measured`` is what it has to be; True and False are reported as yes and no."""
    words = {True: "yes", False: "no"}
    was, must_be = (
        words[one] if isinstance(one, bool) else str(one) for one in (measured, expected)
    )
    return Check(what, was, must_be, bool(measured == expected))


def no_requests(what: str, outcomes: pd.DataFrame) -> Check:
    """Check that there are no such outcomes; otherwise the check summarises them."""
    return Check(what, summarise(outcomes), "0", outcomes.empty)


def all_ended_with(what: str, outcomes: pd.DataFrame, *codes: str) -> Check:
    """Check that each of the outcomes has one of the statuses ``codes``."""
    others = outcomes[~outcomes.code.isin(codes)]
    measured = f"{len(outcomes):,} of {len(outcomes):,}" if others.empty else summarise(others)
    return Check(what, measured, "all", others.empty)
