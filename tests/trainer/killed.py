"""Kills a command on versions at every step that it takes, and looks at what is left.

    python -m tests.trainer.killed DIRECTORY publish|failing|promote|rollback|gc|first

prints how many steps there were; ends with a traceback where something is amiss. A process
of its own, so that it can fork: the tests' own has TensorFlow's threads.
"""

import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.trainer.fake_versions import publish, served
from trainer.registry import checksums as sealing
from trainer.registry import promotion as switching
from trainer.registry import version_record as record
from trainer.registry.store import PUBLIC, Store

_COMMANDS: dict[str, Callable[[Store], Any]] = {
    "first": publish,
    "publish": publish,
    "failing": lambda store: publish(store, passed=False),
    "promote": lambda store: switching.promote(store, 4, "a reason"),
    "rollback": switching.rollback,
    "gc": lambda store: switching.collect(store, 1),
}
#: Served before and after each of them, where versions 1 to 3 were published and 4 is kept.
_SERVED = {
    "publish": ({"3"}, {"5"}),
    "failing": ({"3"}, {"3"}),
    "promote": ({"3"}, {"4"}),
    "rollback": ({"3"}, {"2"}),
    "gc": ({"3"}, {"3"}),
    "first": ({""}, {"1"}),
}
#: Whatever changes the file system, or makes a change last.
_CHANGES = ("rename", "replace", "symlink", "mkdir", "unlink", "rmdir", "fsync")


def main(directory: Path, what: str) -> None:
    template = directory / "template"
    template.mkdir()
    if what != "first":
        for passed in (True, True, True, False):
            publish(Store(template), passed=passed)
    before, after = _SERVED[what]
    for step in range(1, 1000):
        store = Store(directory / "models")
        shutil.copytree(template, store.models_dir, symlinks=True)
        died = _died(lambda store=store: _COMMANDS[what](store), step)
        found = served(store.models_dir)
        if not died:
            assert found == after, f"{found} is served"
            sys.stdout.write(f"{step - 1}\n")
            return
        assert found in (before, after), f"step {step}: {found} is served"
        if found == {""}:
            assert not any((store.models_dir / name).exists() for name in PUBLIC), f"step {step}"
        _check_what_follows(store, found)
        shutil.rmtree(store.models_dir)
    raise AssertionError("it does not end")


def _check_what_follows(store: Store, found: set[str]) -> None:
    """Every version is whole; the next commands work, and clean up."""
    for version in store.versions():
        one = record.read(store.directory(version))
        assert sealing.check(store.directory(version), one) == 8
    target = switching.rollback_target(store)
    assert served(store.models_dir) == found
    number = publish(store)
    assert number > max(map(int, found - {""}), default=0)
    assert served(store.models_dir) == {str(number)}
    assert not list(store.models_dir.glob(".staging*"))
    if found != {""}:
        switching.rollback(store)
        assert served(store.models_dir) == found
        assert switching.rollback_target(store) == target


def _died(command: Callable[[], Any], step: int) -> bool:
    """Whether a process that does ``command`` came to ``step``, where it is killed."""
    child = os.fork()
    if not child:
        _die_at(step)
        command()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _die_at(step: int) -> None:
    """SIGKILL this process just before the ``step``-th change from here on."""
    steps = 0

    def watched(change: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **options)

        return do

    for name in _CHANGES:
        setattr(os, name, watched(getattr(os, name)))
    fcntl.flock = watched(fcntl.flock)


if __name__ == "__main__":
    # What a killed process has written outlives it without; only a loss of power needs it.
    os.fsync = lambda _handle: None  # type: ignore[assignment]
    main(Path(sys.argv[1]), sys.argv[2])
