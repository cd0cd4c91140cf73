"""Training reproduces the tutorial, finds planted structure and agrees with TFRS's metric."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
from rich.console import Console

from trainer import config, evaluation
from trainer.data import histories, movielens, split, synthetic
from trainer.data.types import Dataset, Interactions, Split
from trainer.errors import ConfigError, DataError
from trainer.evaluation import baselines
from trainer.model import training

CONSOLE = Console(quiet=True)


def _train(data: Dataset, rows: Interactions, *settings: str) -> training.TrainedModel:
    return training.train(data, rows, config.load("default", settings), CONSOLE)


def _settings(**changed: object) -> list[str]:
    return [f"training.{key}={value}" for key, value in changed.items()]


def _quality(data: Dataset, parts: Split, model: training.TrainedModel) -> evaluation.Quality:
    scorer = model.scorer(baselines.popularity(parts.train, len(data.item_ids)))
    return evaluation.evaluate(scorer, parts.train, parts.test)


def _dataset(lists: list[list[int]], items: int, features: pd.DataFrame | None = None) -> Dataset:
    """Return a data set whose user u interacted with ``lists[u]``, one second apart."""
    users = np.repeat(np.arange(len(lists)), [len(history) for history in lists])
    item_ids = np.array([f"i{item}" for item in range(items)], object)
    return Dataset(
        name="by hand",
        user_ids=np.array([f"u{user}" for user in range(len(lists))], object),
        item_ids=item_ids,
        titles=item_ids,
        interactions=Interactions(
            users.astype(np.int32),
            np.array([item for history in lists for item in history], np.int32),
            np.concatenate([np.arange(len(history)) for history in lists]),
        ),
        item_features=features,
    )


def _all_users_have_all_items(users: int = 20, items: int = 10) -> Dataset:
    return _dataset([list(range(items)) for _ in range(users)], items)


def test_tutorial_preset_reproduces_the_published_quality(ml_100k: Path) -> None:
    data = movielens.load(ml_100k)
    parts = split.split(data.interactions, "random", 0.2, 1)
    model = training.train(data, parts.train, config.load("tutorial", seed=1), CONSOLE)
    # The tutorial reports 0.2334.
    assert 0.22 <= _quality(data, parts, model).all_items.top_100 <= 0.26


TASTES = 5


@pytest.fixture(scope="module")
def planted() -> tuple[Dataset, Split]:
    data = synthetic.load(users=400, items=600, interactions=20_000, tastes=TASTES, seed=1)
    return data, split.split(data.interactions, "random", 0.2, 1)


@pytest.fixture(scope="module")
def learnt(planted: tuple[Dataset, Split]) -> training.TrainedModel:
    """Train with the default configuration, but without the features that reveal the tastes."""
    data, parts = planted
    return _train(data, parts.train, "model.item_features=[]", "training.epochs=8")


def _taste(table: pd.DataFrame | None) -> np.ndarray:
    assert table is not None
    return table["taste"].to_numpy()


def test_training_finds_planted_tastes(
    planted: tuple[Dataset, Split], learnt: training.TrainedModel
) -> None:
    data, parts = planted
    taste, vectors = _taste(data.item_features), learnt.candidate_vectors
    popular = np.argsort(-baselines.popularity(parts.train, 600))[:200]
    similarities = vectors[popular] @ vectors[popular].T
    np.fill_diagonal(similarities, -np.inf)
    nearest = popular[np.argsort(-similarities, axis=1)[:, :5]]
    assert np.mean(taste[nearest] == taste[popular][:, None]) > 0.9, "chance would give 0.2"


@pytest.fixture(scope="module")
def popularity_quality(planted: tuple[Dataset, Split]) -> evaluation.Quality:
    data, parts = planted
    scores = baselines.popularity(parts.train, len(data.item_ids))
    return evaluation.evaluate(evaluation.popularity_scorer(scores), parts.train, parts.test)


def test_default_configuration_beats_popularity(
    planted: tuple[Dataset, Split],
    learnt: training.TrainedModel,
    popularity_quality: evaluation.Quality,
) -> None:
    reached = _quality(*planted, learnt).unseen_items
    assert reached.top_50 > 1.7 * popularity_quality.unseen_items.top_50


@pytest.mark.parametrize(
    "settings",
    [
        ("training.objective=sampled_softmax", "training.negatives=100"),
        (
            *("training.objective=sampled_softmax", "training.negatives=200"),
            *("training.negatives_from=popularity", "training.hard_negatives=50"),
        ),
        ("training.objective=full_softmax", "training.kept_weight=0.3", "model.user_id=true"),
        ("training.objective=in_batch", "training.batch_size=512", "training.negatives=0"),
        (
            *("training.objective=in_batch", "training.batch_size=512"),
            *("training.negatives=256", "training.targets=future"),
        ),
        ("training.objective=full_softmax", "training.targets=future"),
        # Only the user's id embedding, as in the tutorial, but trained for longer.
        (
            *("training.objective=in_batch", "training.batch_size=512", "training.negatives=256"),
            *("model.history_length=0", "model.user_id=true"),
        ),
    ],
    ids=lambda settings: ",".join(setting.partition(".")[2] for setting in settings),
)
def test_every_objective_beats_popularity(
    settings: tuple[str, ...],
    planted: tuple[Dataset, Split],
    popularity_quality: evaluation.Quality,
) -> None:
    data, parts = planted
    model = _train(
        data, parts.train, "model.item_features=[]", "training.epochs=5",
        *("training.validation_share=0", *settings),
    )  # fmt: skip
    reached = _quality(data, parts, model).unseen_items
    assert reached.top_50 > 1.4 * popularity_quality.unseen_items.top_50


def test_metrics_agree_with_factorized_top_k(
    planted: tuple[Dataset, Split], learnt: training.TrainedModel
) -> None:
    data, parts = planted
    ours = _quality(data, parts, learnt).all_items
    candidates = tf.data.Dataset.from_tensor_slices((list(data.item_ids), learnt.candidate_vectors))
    metric = tfrs.metrics.FactorizedTopK(candidates=candidates.batch(128), ks=evaluation.TOP_KS)
    assert learnt.known_users[parts.test.users].all()
    # Compare ids, because two ways of computing a score can differ in the last bit.
    metric.update_state(
        learnt.query_vectors()[parts.test.users],
        learnt.candidate_vectors[parts.test.items],
        true_candidate_ids=tf.constant(list(data.item_ids[parts.test.items])),
    )
    theirs = [float(value) for value in metric.result()]
    assert [ours.top_1, ours.top_5, ours.top_10, ours.top_50, ours.top_100] == pytest.approx(
        theirs, abs=1e-4
    )


def test_short_history_reveals_the_taste(
    planted: tuple[Dataset, Split], learnt: training.TrainedModel
) -> None:
    data, parts = planted
    taste = _taste(data.item_features)
    by_popularity = np.argsort(-baselines.popularity(parts.train, 600), kind="stable")
    for expected in range(TASTES):
        items = by_popularity[taste[by_popularity] == expected][[10, 15, 20]]
        query = learnt.query.embed(
            histories.from_rows(_dataset([items.tolist()], 600).interactions, 1)
        )
        best = np.argsort(-(query @ learnt.candidate_vectors.T)[0])
        best = best[~np.isin(best, items)][:20]
        assert np.mean(taste[best] == expected) > 0.8, "chance would give 0.2"


def test_new_item_is_found_by_its_features(planted: tuple[Dataset, Split]) -> None:
    data, parts = planted
    item_taste, user_taste = _taste(data.item_features), _taste(data.user_features)
    popularity = baselines.popularity(parts.train, 600)
    # Six items of every taste lose their training rows and become new items.
    by_popularity = np.argsort(-popularity, kind="stable")
    tastes = item_taste[by_popularity]
    new = np.concatenate([by_popularity[tastes == taste][20:26] for taste in range(TASTES)])
    rows = parts.train.take(~np.isin(parts.train.items, new))
    shares = {}
    for features in ('["taste:category"]', "[]"):
        model = _train(
            data, rows, f"model.item_features={features}", "training.epochs=8",
            *("training.validation_share=0", "model.new_item_scale=1.0"),
        )  # fmt: skip
        scores = model.query_vectors() @ model.candidate_vectors.T
        rank = (-scores).argsort(axis=1).argsort(axis=1)[:, new]
        same_taste = user_taste[:, None] == item_taste[new]
        shares[features] = np.mean(rank[same_taste] < 120), np.mean(rank[~same_taste] < 120)
    # A fifth of the catalogue is among the 120 best.
    with_features, without = shares.values()
    assert with_features[0] > 0.9
    assert with_features[1] < 0.1
    assert without[0] == pytest.approx(without[1]), "without features, all new items are equal"


def test_future_targets_find_a_planted_sequence() -> None:
    # All users go from item i to i + 1 on a ring, so that no item is more popular than another.
    random = np.random.default_rng(1)
    lists = [[(start + step) % 40 for step in range(8)] for start in random.integers(0, 40, 300)]
    data = _dataset(lists, 40)
    assert data.interactions.timestamps is not None
    last = data.interactions.timestamps == 7
    rows = data.interactions.take(~last)
    found = {}
    for targets in ("future", "random"):
        model = _train(
            data, rows, f"training.targets={targets}", "training.epochs=30",
            "training.validation_share=0",
        )  # fmt: skip
        scores = model.query_vectors() @ model.candidate_vectors.T
        scores[rows.users, rows.items] = -np.inf
        found[targets] = np.mean(scores.argmax(axis=1) == data.interactions.items[last])
    assert found["future"] > 0.9
    # Without order, the item before the first one would be an equally good answer.
    assert found["random"] < 0.8


def test_same_seed_gives_the_same_model() -> None:
    data = synthetic.load(users=50, items=80, interactions=800, seed=1)
    one, same, other = (
        _train(data, data.interactions, *_settings(epochs=2, refit="false"), f"seed={seed}")
        for seed in (1, 1, 2)
    )
    np.testing.assert_allclose(one.query_vectors(), same.query_vectors(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.candidate_vectors, same.candidate_vectors, rtol=1e-4, atol=1e-5)
    assert one.curve.validation == same.curve.validation
    assert np.abs(one.query_vectors() - other.query_vectors()).max() > 0.1


def test_users_without_training_rows_stay_unknown() -> None:
    data = synthetic.load(users=50, items=80, interactions=800, seed=1)
    rows = data.interactions
    model = _train(data, rows.take(rows.users != 7), *_settings(epochs=1, validation_share=0))
    assert np.flatnonzero(~model.known_users).tolist() == [7]


def test_early_stopping_restores_the_best_epoch() -> None:
    # The learning rate is so high that validation stops improving early.
    data = synthetic.load(users=60, items=80, interactions=1_200, tastes=4, seed=2)
    settings = _settings(epochs=40, patience=3, refit="false", batch_size=16, learning_rate=0.1,
                         learning_rate_decay="false")  # fmt: skip
    model = _train(data, data.interactions, *settings)
    curve = model.curve
    assert len(curve.loss) == len(curve.validation) < 40
    assert curve.best_epoch == np.argmax(curve.validation) + 1
    assert len(curve.validation) - curve.best_epoch == 3
    # The model equals one whose training ended with the best epoch.
    best = f"training.epochs={curve.best_epoch}"
    short = _train(data, data.interactions, *settings, best)
    np.testing.assert_allclose(short.candidate_vectors, model.candidate_vectors, atol=1e-3)


def test_refit_learns_from_all_rows() -> None:
    data = synthetic.load(users=60, items=80, interactions=1_200, tastes=4, seed=2)
    rows = data.interactions
    settings = _settings(epochs=4, patience=2, batch_size=16, validation_share=0.5)
    again = _train(data, rows, *settings)
    once = _train(data, rows, *settings, "training.refit=false")
    assert again.curve.validation == once.curve.validation
    assert len(again.curve.loss) == len(again.curve.validation)
    # The model equals one that was trained without validation for the best number of epochs.
    plain = _train(
        *(data, rows),
        *_settings(epochs=again.curve.best_epoch, batch_size=16, validation_share=0),
    )
    np.testing.assert_allclose(again.candidate_vectors, plain.candidate_vectors, atol=1e-4)
    assert np.abs(again.candidate_vectors - once.candidate_vectors).max() > 0.01
    # Validation rows are part of the users' histories.
    assert once.histories.items.tolist() == histories.from_rows(rows, 60).items.tolist()


def test_learning_curve_without_validation_has_only_the_loss() -> None:
    model = _train(
        _all_users_have_all_items(), _all_users_have_all_items().interactions,
        *_settings(epochs=3, validation_share=0),
    )  # fmt: skip
    assert len(model.curve.loss) == model.curve.best_epoch == 3
    assert model.curve.validation == []
    assert model.interactions_per_second > 0


def test_refit_has_its_own_tensorboard_directory(tmp_path: Path) -> None:
    data = synthetic.load(users=50, items=80, interactions=800, seed=1)
    settings = config.load("default", ["training.epochs=1"])
    training.train(data, data.interactions, settings, CONSOLE, tmp_path)
    found = {path.parent for path in tmp_path.rglob("events.out.tfevents.*")}
    assert found == {tmp_path / "train", tmp_path / "refit" / "train"}


DEGENERATE = {
    "one user": [[0, 1, 2]],
    "two rows": [[0, 1]],
    "users with one row": [[0], [1], [2, 3]],
    "no item in common": [[0, 1], [2, 3], [4, 5]],
}


@pytest.mark.parametrize("lists", DEGENERATE.values(), ids=DEGENERATE.keys())
@pytest.mark.parametrize("objective", ["full_softmax", "sampled_softmax", "in_batch"])
def test_degenerate_data_can_be_trained_on(lists: list[list[int]], objective: str) -> None:
    # Some items have no rows, and a step is larger than the whole data set.
    data = _dataset(lists, 9)
    model = _train(
        *(data, data.interactions, f"training.objective={objective}"),
        *_settings(epochs=1, batch_size=5000),
    )
    assert np.isfinite(model.curve.loss).all()
    assert np.isfinite(model.query_vectors()).all()
    assert model.candidate_vectors.shape == (9, 64)
    assert model.known_users.all()


def test_validation_users_may_have_no_training_rows() -> None:
    # All rows of the second half of the users are newer than those of the first half.
    lists = [[user % 5, 5 + user % 4, 9] for user in range(30)]
    data = _dataset(lists, 10)
    rows = data.interactions
    assert rows.timestamps is not None
    rows = Interactions(rows.users, rows.items, rows.users * 10 + rows.timestamps)
    model = _train(
        replace(data, interactions=rows), rows,
        *("split.kind=temporal", *_settings(epochs=1, validation_share=0.5, batch_size=8)),
    )  # fmt: skip
    assert len(model.curve.validation) == 1
    assert model.known_users.all()


def test_users_with_only_validation_rows_are_known_if_their_query_is_not_empty() -> None:
    lists = [[user % 5, 5 + user % 4, 9] for user in range(30)]
    data = _dataset(lists, 10)
    rows = data.interactions
    assert rows.timestamps is not None
    rows = Interactions(rows.users, rows.items, rows.users * 10 + rows.timestamps)
    data = replace(
        data, interactions=rows, user_features=pd.DataFrame({"parity": np.arange(30) % 2})
    )
    for query_settings, known in (
        (["model.history_length=0", "model.user_id=true"], 15),
        (["model.history_length=0", 'model.user_features=["parity:category"]'], 30),
        ([], 30),
    ):
        model = _train(
            data, rows, "split.kind=temporal", "training.refit=false", *query_settings,
            *_settings(epochs=1, validation_share=0.5, batch_size=8),
        )  # fmt: skip
        assert np.flatnonzero(model.known_users).tolist() == list(range(known))
        assert np.linalg.norm(model.query_vectors()[:known], axis=1).min() > 0.9


def test_too_few_rows_for_validation_print_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    data = _dataset([[0, 1], [1, 2]], 3)
    model = training.train(
        data, data.interactions, config.load("default", _settings(epochs=2)), Console(width=200)
    )
    assert len(model.curve.loss) == 2
    assert model.curve.validation == []
    assert "Training for all epochs without early stopping" in capsys.readouterr().out


def test_untrainable_data_is_refused() -> None:
    one_item = _dataset([[0], [0], [0]], 1)
    with pytest.raises(DataError, match="no user has two different items"):
        _train(one_item, one_item.interactions)
    settings = ["training.objective=in_batch", "training.epochs=1"]
    model = _train(one_item, one_item.interactions, *settings)
    assert np.isfinite(model.candidate_vectors).all()
    data = _all_users_have_all_items()
    with pytest.raises(DataError, match="queries would be empty"):
        _train(*(data, data.interactions, "model.history_length=0", 'model.user_features=["auto"]'))
    with pytest.raises(DataError, match="the data has no table of items"):
        _train(data, data.interactions, 'model.item_features=["year"]')


def test_diverging_training_names_the_learning_rate() -> None:
    data = _all_users_have_all_items()
    with pytest.raises(ConfigError, match=r"lower training\.learning_rate, which is 10"):
        _train(
            *(data, data.interactions),
            *_settings(epochs=60, learning_rate=10, temperature=0.01, validation_share=0),
        )


def test_user_features_determine_queries() -> None:
    # The history is uninformative, and the feature determines the items.
    random = np.random.default_rng(0)
    tastes = random.integers(0, 4, 200)
    lists = [(taste * 10 + random.permutation(10)[:4]).tolist() for taste in tastes]
    data = replace(_dataset(lists, 40), user_features=pd.DataFrame({"taste": tastes}))
    model = _train(
        data, data.interactions, "model.history_length=0",
        *('model.user_features=["taste:category"]', *_settings(epochs=20, validation_share=0)),
    )  # fmt: skip
    best = (-(model.query_vectors() @ model.candidate_vectors.T)).argsort(axis=1)[:, :10]
    assert np.mean(best // 10 == tastes[:, None]) > 0.95


def test_queries_have_the_configured_parts_and_length() -> None:
    data = synthetic.load(users=50, items=80, interactions=800, seed=1)
    for user_id, normalize in (("true", "false"), ("false", "true")):
        model = _train(
            data, data.interactions, *_settings(epochs=1, validation_share=0),
            *(f"model.user_id={user_id}", f"model.normalize={normalize}"),
        )  # fmt: skip
        lengths = np.linalg.norm(model.query_vectors(), axis=1)
        assert np.allclose(lengths, 1, atol=1e-4) == (normalize == "true")
        assert (model.query.user_vectors is not None) == (user_id == "true")
