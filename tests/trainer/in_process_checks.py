"""Runs the checks of exported models in the test process, which has imported TensorFlow already."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainer.errors import TrainerError, VerificationError
from trainer.probe import exported_models, rankings, stored_version
from trainer.probe.__main__ import ANSWERS
from trainer.probe.protocol import Message

#: The modules that start a fresh process for their check.
CALLERS = (exported_models, rankings, stored_version)


def _run_in_this_process(request: Message, scratch_parent: Path | None = None) -> Message:  # noqa: ARG001
    try:
        return ANSWERS[request.values["check"]](request)
    except TrainerError as error:
        raise VerificationError(str(error).splitlines()[-1]) from error


@contextmanager
def in_process_checks() -> Iterator[None]:
    """Save the starts of processes, each of which would import TensorFlow for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for module in CALLERS:
            patch.setattr(module, "run_in_fresh_process", _run_in_this_process)
        yield
