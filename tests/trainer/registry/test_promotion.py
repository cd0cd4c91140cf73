"""Promotion, rollback, and the gate that both respect."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from tests.trainer.registry.fake_versions import build, complete, publish, served_versions
from trainer.errors import GateFailed, StoreError
from trainer.registry import promotion
from trainer.registry.store import Store
from trainer.registry.version_record import VersionRecord


def test_rollback_goes_back_through_the_served_versions_only(store: Store) -> None:
    for _ in range(3):
        publish(store)
    publish(store, passed=False)
    publish(store)
    assert promotion.rollback(store) == (3, 5), "4 was never served"
    assert promotion.rollback(store) == (2, 3)
    assert promotion.rollback(store, to=5) == (5, 2)
    assert promotion.rollback(store) == (3, 5)
    assert promotion.rollback(store, to=5) == (5, 3)
    shutil.rmtree(store.directory(3))
    assert promotion.rollback(store) == (2, 5), "3 was removed"
    assert promotion.rollback(store) == (1, 2)
    with pytest.raises(StoreError, match="no version was served before version 1"):
        promotion.rollback(store)
    assert served_versions(store.models_dir) == {"1"}


def test_rollback_needs_a_version_that_was_served(store: Store) -> None:
    publish(store)
    publish(store, passed=False)
    for version, message in (
        (2, "version 2 was never served; use `promote`"),
        (1, "version 1 is served already"),
        (9, r"no version 9 in .*; found: 1, 2"),
    ):
        with pytest.raises(StoreError, match=message):
            promotion.rollback(store, to=version)
    assert store.current() == 1


def test_version_that_failed_its_gate_is_kept_and_needs_a_reason(store: Store) -> None:
    publish(store)
    assert publish(store, passed=False) == 2
    assert served_versions(store.models_dir) == {"1"}
    with pytest.raises(GateFailed, match="version 2 did not pass its gate: a made-up quality"):
        promotion.promote(store, 2)
    assert served_versions(store.models_dir) == {"1"}
    promotion.promote(store, 2, "the drop is a holiday")
    assert served_versions(store.models_dir) == {"2"}
    record = VersionRecord.read(store.directory(2))
    assert record.gate == "overridden"
    assert [one.reason for one in record.promotions] == ["the drop is a holiday"]


def test_override_serves_a_version_that_failed_and_is_recorded(store: Store) -> None:
    publish(store)
    assert publish(store, passed=False, override="urgent") == 2
    assert served_versions(store.models_dir) == {"2"}
    assert VersionRecord.read(store.directory(2)).promotions[0].reason == "urgent"


def test_version_is_not_added_if_another_one_was_promoted_meanwhile(store: Store) -> None:
    publish(store)
    with store.staging() as staged:
        build(staged)
        record = complete(staged)
        publish(store)
        with pytest.raises(promotion.ServedVersionChanged):
            promotion.add(store, staged, record, served=1)
        assert store.versions() == [1, 3]
        assert promotion.add(store, staged, record, served=3)
    assert store.current() == 2


def test_version_with_changed_files_is_not_promoted(store: Store) -> None:
    publish(store)
    publish(store)
    (store.directory(1) / "retrieval" / "1" / "saved_model.pb").write_text("x")
    with pytest.raises(StoreError, match=r"retrieval/1/saved_model.pb is not the file that was"):
        promotion.promote(store, 1)
    assert served_versions(store.models_dir) == {"2"}


def test_version_with_erased_seen_items_is_promoted(store: Store) -> None:
    publish(store)
    publish(store)
    with closing(sqlite3.connect(store.directory(1) / "seen.sqlite")) as database, database:
        database.execute("DELETE FROM seen")
    promotion.promote(store, 1)
    assert store.current() == 1
