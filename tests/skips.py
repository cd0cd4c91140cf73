"""Skipped tests: why a test is skipped, how to make it run, and when a skip is a failure.

A test can be skipped for two kinds of reasons. Something is missing that can be installed: the
test is skipped on a developer's machine and fails if the environment variable CI is ``true``.
Or the test does not apply to the machine, such as its operating system: it is skipped everywhere.
The end of the test run lists both.
"""

import os
import shutil
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

_MISSING = "missing: "
_NOT_APPLICABLE = "not applicable: "
_PYTEST_PREFIX = "Skipped: "


def needs_program(program: str, install: str) -> pytest.MarkDecorator:
    """Return a mark for tests that run a program; ``install`` says how to get it."""
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{_MISSING}{program} ({install})"
    )


def missing(what: str, install: str) -> BaseException:
    """Return the exception that skips a test because of something that can be installed."""
    return pytest.skip.Exception(f"{_MISSING}{what} ({install})")


def applies_if(condition: bool, requirement: str) -> pytest.MarkDecorator:
    """Return a mark for tests that make sense only on machines with ``requirement``."""
    return pytest.mark.skipif(not condition, reason=_NOT_APPLICABLE + requirement)


def not_applicable(requirement: str) -> BaseException:
    """Return the exception that skips a test on machines without ``requirement``."""
    return pytest.skip.Exception(_NOT_APPLICABLE + requirement)


def _reason(report: pytest.TestReport) -> str:
    """Return the reason of a skipped test, or an empty string."""
    if not report.skipped or hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
        return ""
    return str(report.longrepr[2]).removeprefix(_PYTEST_PREFIX)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn skips into failures in CI, except those of tests that do not apply to the machine."""
    report = yield
    reason = _reason(report)
    if reason and os.environ.get("CI") == "true" and not reason.startswith(_NOT_APPLICABLE):
        report.outcome = "failed"
        report.longrepr = f"With CI=true no test may be skipped for this reason: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List why tests were skipped, and how to make them run."""
    skipped = Counter(map(_reason, terminalreporter.stats.get("skipped", [])))
    if skipped:
        terminalreporter.section("skipped tests")
        for reason, count in sorted(skipped.items()):
            terminalreporter.line(f"{count:5} {reason}")
