"""Changes which version is served: adds, promotes, rolls back and removes versions.

The functions record their changes in ``version.json``. :class:`trainer.registry.store.Store` has
methods for the atomic renames, such as renaming a new link over ``current``.
"""

from trainer.errors import GateFailed, StoreError
from trainer.registry import checksums
from trainer.registry.store import StagedVersion, Store
from trainer.registry.version_record import VersionRecord


class ServedVersionChanged(Exception):
    """Another command promoted a version while the gate was being evaluated."""


def add(
    store: Store,
    staged: StagedVersion,
    record: VersionRecord,
    *,
    served: int | None,
    override: str | None = None,
) -> bool:
    """Add a staged version, and serve it if it passed the gate or the gate is overridden.

    Args:
        store: the store that staged the version.
        staged: the version, complete except for its record.
        record: the version's record, including the gate results.
        served: the version that was served when the gate was evaluated.
        override: the reason to serve the version even if the gate failed; None respects the gate.

    Returns:
        True if the version is served now.

    Raises:
        ServedVersionChanged: ``served`` is no longer the served version; nothing was changed.
    """
    with store.lock():
        if store.current() != served:
            raise ServedVersionChanged
        record.write(staged.directory)
        store.add(staged)
        if record.failures and override is None:
            return False
        reason = override if record.failures else None
        _serve(store, staged.version, record.source, _rollback_chain(store, staged.version), reason)
        return True


def promote(store: Store, version: int, reason: str | None = None) -> int | None:
    """Serve ``version``, and return the version that was served before, or None.

    Args:
        store: the store that contains the version.
        version: the version to serve.
        reason: the reason to serve it even if the gate failed; None respects the gate.

    Raises:
        GateFailed: the version did not pass the gate, and no ``reason`` was given.
        StoreError: there is no such version, its files have changed, or it is already served.
    """
    directory = store.directory(version)
    record = VersionRecord.read(directory)
    if record.failures and reason is None:
        raise GateFailed(
            f"version {version} did not pass its gate: {'; '.join(record.failures)}. "
            f'Add --reason "TEXT" to serve it anyway'
        )
    checksums.verify(directory, record)
    with store.lock():
        before = store.current()
        _require_not_served(version, before)
        _serve(store, version, "promote", _rollback_chain(store, version), reason)
    return before


def rollback(store: Store, to: int | None = None, reason: str | None = None) -> tuple[int, int]:
    """Serve an earlier version again.

    Repeated rollbacks go further back, and never return to a version that was already rolled back.

    Args:
        store: the store that contains the versions.
        to: the version to serve; None for the version that was served before the current version.
        reason: the user's reason for the rollback, which is recorded.

    Returns:
        The version that is served now, and the version that was served before the rollback.

    Raises:
        StoreError: no version was served before the current version, or ``to`` was never served.
    """
    with store.lock():
        before = store.current()
        if before is None:
            raise StoreError(f"no version is served in {store.models_dir}")
        target = rollback_target(store) if to is None else to
        if target is None:
            raise StoreError(
                f"no version was served before version {before}; "
                f"use `promote` to serve any other version that passed its gate"
            )
        _require_not_served(target, before)
        if not VersionRecord.read(store.directory(target)).promotions:
            raise StoreError(f"version {target} was never served; use `promote` to serve it")
        _serve(store, target, "rollback", _previous(store, target), reason)
    return target, before


def rollback_target(store: Store) -> int | None:
    """Return the version that :func:`rollback` would serve, or None if there is none."""
    current = store.current()
    if current is None:
        return None
    existing = store.versions()
    return next((other for other in _previous(store, current) if other in existing), None)


def collect_garbage(store: Store, keep: int) -> list[int]:
    """Remove all except the ``keep`` newest versions, and return the removed versions.

    The served version and the version that a rollback would serve are never removed.
    """
    with store.lock():
        kept = {*store.versions()[-keep:], store.current(), rollback_target(store)}
        removed = [version for version in store.versions() if version not in kept]
        for version in removed:
            store.remove(version)
    return removed


def _serve(store: Store, version: int, by: str, previous: list[int], reason: str | None) -> None:
    """Record the promotion of ``version``, then serve it. The caller holds the lock."""
    directory = store.directory(version)
    VersionRecord.read(directory).with_promotion(by, previous, reason).write(directory)
    store.switch_current(version)


def _rollback_chain(store: Store, version: int) -> list[int]:
    """Return the versions to which a rollback from ``version`` can return, in preferred order."""
    current = store.current()
    if current is None:
        return []
    existing = store.versions()
    chain = [current, *_previous(store, current)]
    return [other for other in chain if other in existing and other != version]


def _previous(store: Store, version: int) -> list[int]:
    """Return the rollback chain that was recorded when ``version`` was last promoted."""
    promotions = VersionRecord.read(store.directory(version)).promotions
    return promotions[-1].previous if promotions else []


def _require_not_served(version: int, current: int | None) -> None:
    if version == current:
        raise StoreError(f"version {version} is served already")
