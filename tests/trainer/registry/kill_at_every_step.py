"""Kills a registry command before each of its changes to the file system, and checks the rest.

    python -m tests.trainer.registry.kill_at_every_step DIRECTORY COMMAND

Prints the number of changes, or ends with a traceback if a check fails. It is a program of its
own because it forks, which the test process cannot do: TensorFlow has started threads there.
"""

import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.trainer.registry.fake_versions import FILES, publish, served_versions
from trainer.registry import checksums, promotion
from trainer.registry.promotion import collect_garbage
from trainer.registry.store import SERVED_NAMES, Store
from trainer.registry.version_record import VersionRecord

#: Each command starts with versions 1 to 3 published and version 4 kept because its gate failed,
#: except for ``first``, which starts without versions.
COMMANDS: dict[str, Callable[[Store], Any]] = {
    "first": publish,
    "publish": publish,
    "failing": lambda store: publish(store, passed=False),
    "promote": lambda store: promotion.promote(store, 4, "a reason"),
    "rollback": promotion.rollback,
    "gc": lambda store: collect_garbage(store, 1),
}
# The served version before and after each command.
_SERVED = {
    "publish": ({"3"}, {"5"}),
    "failing": ({"3"}, {"3"}),
    "promote": ({"3"}, {"4"}),
    "rollback": ({"3"}, {"2"}),
    "gc": ({"3"}, {"3"}),
    "first": ({""}, {"1"}),
}
# The functions of ``os`` that change the file system or make a change durable.
_CHANGES = ("rename", "replace", "symlink", "mkdir", "unlink", "rmdir", "fsync")


def main(directory: Path, command: str) -> None:
    template = directory / "template"
    template.mkdir()
    if command != "first":
        for passed in (True, True, True, False):
            publish(Store(template), passed=passed)
    before, after = _SERVED[command]
    for step in range(1, 1000):
        store = Store(directory / "models")
        shutil.copytree(template, store.models_dir, symlinks=True)
        killed = _killed(partial(COMMANDS[command], store), step)
        served = served_versions(store.models_dir)
        if not killed:
            assert served == after, f"{served} is served"
            sys.stdout.write(f"{step - 1}\n")
            return
        assert served in (before, after), f"step {step}: {served} is served"
        if served == {""}:
            assert not any((store.models_dir / name).exists() for name in SERVED_NAMES), step
        _check_next_commands(store, served)
        shutil.rmtree(store.models_dir)
    raise AssertionError("the command has more than 1000 steps")


def _check_next_commands(store: Store, served: set[str]) -> None:
    """Check that every version is complete, and that the next commands work and clean up."""
    for version in store.versions():
        directory = store.directory(version)
        assert checksums.verify(directory, VersionRecord.read(directory)) == FILES
    target = promotion.rollback_target(store)
    assert served_versions(store.models_dir) == served
    number = publish(store)
    assert number > max(map(int, served - {""}), default=0)
    assert served_versions(store.models_dir) == {str(number)}
    assert not list(store.models_dir.glob(".staging*"))
    if served != {""}:
        promotion.rollback(store)
        assert served_versions(store.models_dir) == served
        assert promotion.rollback_target(store) == target


def _killed(command: Callable[[], Any], step: int) -> bool:
    """Run a command in a process that is killed at a step; return whether it got there."""
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
    """Kill this process just before its ``step``-th change from now on."""
    steps = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def count_and_change(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **options)

        return count_and_change

    for name in _CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    fcntl.flock = counted(fcntl.flock)


if __name__ == "__main__":
    # Killing a process loses nothing that it has written, so fsync only costs time here.
    os.fsync = lambda _handle: None  # type: ignore[assignment]
    main(Path(sys.argv[1]), sys.argv[2])
