from tests.trainer.registry.fake_versions import publish
from trainer.registry import promotion
from trainer.registry.promotion import collect_garbage
from trainer.registry.store import Store


def test_newest_served_and_rollback_versions_are_kept(store: Store) -> None:
    for _ in range(6):
        publish(store)
    promotion.rollback(store, to=3)
    assert collect_garbage(store, 2) == [1, 4]
    assert store.versions() == [2, 3, 5, 6]
    assert not list(store.models_dir.glob(".staging*"))
    assert promotion.rollback(store) == (2, 3)
