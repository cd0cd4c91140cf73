import optuna
import pytest

from trainer import config
from trainer.data import synthetic
from trainer.model.training.defaults import resolve
from trainer.tuning import space

DATA = synthetic.load(users=500, items=1000, interactions=2000)


def _resolved(preset: str, *settings: str) -> config.Config:
    return resolve(config.load(preset, settings), DATA, DATA.interactions)


@pytest.mark.parametrize("preset", config.PRESETS)
@pytest.mark.parametrize("objective", ["full_softmax", "sampled_softmax", "in_batch"])
def test_search_can_start_from_every_preset(preset: str, objective: str) -> None:
    start = _resolved(preset, "training.negatives=100", f"training.objective={objective}")
    searched = space.distributions(start, item_features=True)
    point = space.starting_point(start, searched)
    assert space.with_parameters(start, point) == start
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.enqueue_trial(point)
    first, *others = (study.ask(searched).params for _ in range(30))
    # Optuna only warns about values out of bounds, but with_parameters() raises an error.
    assert first == point
    assert all(searched[key]._contains(value) for key, value in point.items())
    for parameters in others:
        changed = space.with_parameters(start, parameters)
        assert changed != start
        assert changed.training.epochs <= 2 * start.training.epochs


def test_settings_without_effect_are_not_searched() -> None:
    def searched(*settings: str, objective: str, item_features: bool = True) -> set[str]:
        start = _resolved("default", f"training.objective={objective}", *settings)
        return set(space.distributions(start, item_features=item_features))

    every = searched(objective="sampled_softmax")
    assert every - searched(objective="full_softmax") == {"training.negatives"}
    assert every - searched("training.negatives=0", objective="sampled_softmax") == {
        "training.negatives"
    }
    assert every - searched(objective="in_batch") == {"training.kept_weight"}
    assert every - searched(objective="sampled_softmax", item_features=False) == {
        "model.item_id_dropout"
    }
    users_alone = ("model.history_length=0", "model.user_id=true")
    assert every - searched(*users_alone, objective="sampled_softmax") == {"model.history_exponent"}
