"""Skips are explained at the end of a run, and fail in CI when something is missing."""

import pytest

from tools.processes import ROOT

pytest_plugins = "pytester"

_TESTS = """
    import pytest
    from tests import skips

    @skips.needs_program("no-such-program", "apt-get install nothing")
    def test_program():
        pass

    def test_data():
        raise skips.missing("some data", "download it")

    @skips.applies_if(False, "another operating system")
    def test_platform():
        pass

    def test_unclassified():
        pytest.skip("just because")

    @pytest.mark.xfail(strict=True)
    def test_known_bug():
        assert False
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A test suite with skipped tests."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(
        "from tests.skips import pytest_runtest_makereport, pytest_terminal_summary"
    )
    pytester.makepyfile(_TESTS)
    return pytester


def test_a_local_run_lists_skipped_tests_with_instructions(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    result = suite.runpytest_subprocess()
    result.assert_outcomes(skipped=4, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*skipped tests*",
            "    1 just because",
            "    1 missing: no-such-program (apt-get install nothing)",
            "    1 missing: some data (download it)",
            "    1 not applicable: another operating system",
        ]
    )


def test_ci_accepts_only_skips_that_do_not_apply(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = suite.runpytest_subprocess()
    result.assert_outcomes(errors=1, failed=2, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(["*1 not applicable: another operating system"])
