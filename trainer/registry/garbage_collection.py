"""Removes old versions."""

from trainer.registry.promotion import rollback_target
from trainer.registry.store import Store


def collect_garbage(store: Store, keep: int) -> list[int]:
    """Remove all but the ``keep`` newest versions and return the removed ones.

    The served version, and the one that a rollback would serve, are kept as well.
    """
    with store.lock():
        kept = {*store.versions()[-keep:], store.current(), rollback_target(store)}
        removed = [version for version in store.versions() if version not in kept]
        for version in removed:
            store.remove(version)
    return removed
