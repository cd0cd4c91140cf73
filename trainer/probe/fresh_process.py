"""Runs a module of the trainer in a process of its own, which shares nothing with this one."""

import subprocess
import sys

from trainer.errors import VerificationError


def run(module: str, *arguments: str, about: str = "") -> str:
    """What ``python -m module`` wrote to standard output.

    Raises:
        VerificationError: it failed; with ``about`` and its last line on standard error, or the
            signal that ended it.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode < 0:
        raise VerificationError(
            f"{about}the process was ended by signal {-done.returncode}; for want of memory?"
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise VerificationError(about + lines[-1])
    return done.stdout
