import numpy as np

from trainer.data import synthetic


def test_synthetic_data_has_tastes_popularity_and_time_order() -> None:
    data = synthetic.load(users=300, items=500, interactions=9_000, tastes=4, seed=3)
    rows = data.interactions
    assert data.user_features is not None
    assert data.item_features is not None
    user_taste = data.user_features["taste"].to_numpy()
    item_taste = data.item_features["taste"].to_numpy()
    own = np.mean(user_taste[rows.users] == item_taste[rows.items])
    swapped = np.mean(user_taste[rows.items % 300] == item_taste[rows.users])
    assert own > 0.6
    assert swapped < 0.4
    counts = np.sort(np.bincount(rows.items, minlength=500))[::-1]
    assert counts[:50].sum() > 0.3 * len(rows), "a tenth of the items has at least 30 % of the rows"
    assert len(np.unique(rows.users.astype(np.int64) * 500 + rows.items)) == len(rows)
    assert rows.timestamps is not None
    assert (np.diff(rows.timestamps) >= 0).all()
    same = synthetic.load(users=300, items=500, interactions=9_000, tastes=4, seed=3)
    assert np.array_equal(same.interactions.items, rows.items)
