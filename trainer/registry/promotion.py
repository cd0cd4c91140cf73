"""Which version is served, and which ones are kept: promote, roll back, collect."""

from trainer.errors import Refused, StoreError
from trainer.registry import checksums as sealing
from trainer.registry import version_record as record
from trainer.registry.store import Staged, Store
from trainer.registry.version_record import Record


def admit(
    store: Store, staged: Staged, judged: Record, serving: int | None, override: str | None
) -> bool | None:
    """Keep a staged version, and serve it if it passed its gate or ``override`` says why.

    Returns:
        whether it is served; None, and nothing is done, where it is no longer
        ``serving`` that is.
    """
    with store.lock():
        if store.current() != serving:
            return None
        judged.write(staged.directory)
        store.keep(staged)
        if judged.failed and override is None:
            return False
        reason = override if judged.failed else None
        _serve(store, staged.version, judged.source, _before(store, staged.version), reason)
        return True


def promote(store: Store, version: int, reason: str | None = None) -> int | None:
    """Serve ``version``; the one that was served before.

    Raises:
        Refused: it did not pass its gate, and there is no ``reason`` to serve it.
        StoreError: there is no such version, its files are not those that were published,
            or it is served already.
    """
    directory = store.existing(version)
    found = record.read(directory)
    if found.failed and reason is None:
        raise Refused(
            f"version {version} did not pass its gate: {'; '.join(found.failed)}. "
            f'With --reason "TEXT" it is published all the same'
        )
    sealing.check(directory, found)
    with store.lock():
        before = store.current()
        _not_current(version, before)
        _serve(store, version, "promote", _before(store, version), reason)
    return before


def rollback(store: Store, to: int | None = None, reason: str | None = None) -> tuple[int, int]:
    """Serve what was served before, or ``to``; the version gone back to, and the one before.

    Repeated, it goes further back: never to a version that was rolled back from.

    Raises:
        StoreError: there is nothing to go back to, or ``to`` was never served.
    """
    with store.lock():
        before = store.current()
        if before is None:
            raise StoreError(f"no version is served in {store.models_dir}")
        target = rollback_target(store) if to is None else to
        if target is None:
            raise StoreError(
                f"no version was served before version {before}; "
                f"`promote` serves any other that passed its gate"
            )
        _not_current(target, before)
        if not record.read(store.existing(target)).promotions:
            raise StoreError(f"version {target} was never served; `promote` publishes it")
        _serve(store, target, "rollback", _previous(store, target), reason)
    return target, before


def rollback_target(store: Store) -> int | None:
    """What :func:`rollback` goes back to; None where there is nothing."""
    current = store.current()
    if current is None:
        return None
    there = [one for one in _previous(store, current) if store.directory(one).is_dir()]
    return there[0] if there else None


def collect(store: Store, keep: int) -> list[int]:
    """Remove all but the ``keep`` newest versions; which ones are gone.

    The served one stays, and the one that a rollback would go to.
    """
    with store.lock():
        stays = {*store.versions()[-keep:], store.current(), rollback_target(store)}
        gone = [version for version in store.versions() if version not in stays]
        for version in gone:
            store.remove(version)
    return gone


def _serve(store: Store, version: int, by: str, previous: list[int], reason: str | None) -> None:
    """Record that ``version`` is promoted, then serve it. Holds the lock: the caller."""
    directory = store.existing(version)
    record.read(directory).promoted(by, previous, reason).write(directory)
    store.switch(version)


def _before(store: Store, version: int) -> list[int]:
    """What can be gone back to once ``version`` is served: the served one, and before it."""
    current = store.current()
    if current is None:
        return []
    there = store.versions()
    chain = [current, *_previous(store, current)]
    return [one for one in chain if one in there and one != version]


def _previous(store: Store, version: int) -> list[int]:
    """As of when ``version`` was promoted last."""
    promotions = record.read(store.existing(version)).promotions
    return promotions[-1].previous if promotions else []


def _not_current(version: int, current: int | None) -> None:
    if version == current:
        raise StoreError(f"version {version} is served already")
