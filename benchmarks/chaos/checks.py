"""Compares the measurements of a scenario with their bounds."""

from dataclasses import dataclass

import pandas as pd

from benchmarks.chaos.outcomes import summarise


@dataclass(frozen=True)
class Check:
    """One line of the report. Without a ``bound``, the measurement is only informative."""

    what: str
    measured: str
    bound: str = ""
    passed: bool = True


class ScenarioError(Exception):
    """A scenario cannot be run, for example because a program is not installed."""


def require(outcomes: pd.DataFrame, when: str) -> pd.DataFrame:
    """Return the outcomes, after making sure that there are any.

    Raises:
        ScenarioError: there are no outcomes, so checks of them would pass without any meaning.
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
    """Check that ``measured`` equals ``expected``; True and False are reported as yes and no."""
    words = {True: "yes", False: "no"}
    measured_text, bound = (
        words[value] if isinstance(value, bool) else str(value) for value in (measured, expected)
    )
    return Check(what, measured_text, bound, bool(measured == expected))


def no_requests(what: str, outcomes: pd.DataFrame) -> Check:
    """Check that ``outcomes`` is empty; otherwise the check summarises the outcomes."""
    return Check(what, summarise(outcomes), "0", outcomes.empty)


def all_ended_with(what: str, outcomes: pd.DataFrame, *codes: str) -> Check:
    """Check that every outcome has one of the statuses ``codes``."""
    others = outcomes[~outcomes.code.isin(codes)]
    measured = f"{len(outcomes):,} of {len(outcomes):,}" if others.empty else summarise(others)
    return Check(what, measured, "all", others.empty)
