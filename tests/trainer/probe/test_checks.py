"""Verification finds models that answer wrongly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.numpy_oracle import NumpyOracle
from trainer import config
from trainer import probe as verify
from trainer.artifact.servable import Servable
from trainer.errors import VerificationError
from trainer.pipelines import build
from trainer.probe import checks, questions
from trainer.probe import loaded_model as answers


def _wrong_queries(servable: Servable) -> Servable:
    return replace(servable, query=replace(servable.query, base=servable.query.base + 1))


def _other_histories(servable: Servable) -> Servable:
    return replace(servable, histories=servable.histories.newest(0))


def _other_similar(servable: Servable) -> Servable:
    return replace(servable, item_queries=-servable.candidate_vectors)


def _other_popular(servable: Servable) -> Servable:
    return replace(servable, popularity=servable.popularity + 1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Servable, Path]:
    """A catalogue and the directory of its two models."""
    servable = NumpyOracle(4, 30, 1).servable
    directory = tmp_path_factory.mktemp("small")
    build.build(servable, directory, config.IndexConfig(), {}, print)
    return servable, directory


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (_wrong_queries, "retrieval_exact: by_user: scores differ"),
        (_other_histories, "retrieval_exact: by_user: scores differ"),
        (_other_similar, "retrieval_exact: by_item: scores differ"),
        (_other_popular, "retrieval_exact: by_user: unknown ids do not get the popular"),
    ],
)
def test_what_answers_wrongly_is_found_out(
    changed: Any, message: str, small: tuple[Servable, Path], tmp_path: Path
) -> None:
    servable, directory = small
    questions.write(changed(servable), tmp_path)
    with pytest.raises(VerificationError, match=message):
        checks.check(directory, tmp_path)


def test_every_question_is_checked_however_few_at_once(
    small: tuple[Servable, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servable, directory = small
    questions.write(servable, tmp_path)
    queries = np.load(tmp_path / "queries.npy")
    wrong = queries.copy()
    wrong[-1] *= -1
    for scores in (3 * len(servable.item_ids), 1):
        monkeypatch.setattr(answers, "_SCORES_AT_ONCE", scores)
        np.save(tmp_path / "queries.npy", queries)
        assert checks.check(directory, tmp_path)["retrieval"]["recall_at_100"] == 1.0
        np.save(tmp_path / "queries.npy", wrong)
        with pytest.raises(VerificationError, match="by_user: scores differ"):
            checks.check(directory, tmp_path)


def test_a_fresh_process_says_what_it_found(small: tuple[Servable, Path]) -> None:
    servable, directory = small
    measured = verify.verify(directory, servable)
    found = measured["retrieval"]
    assert found["recall_at_10"] == found["recall_at_100"] == found["by_item_recall_at_100"] == 1.0
    assert found["queries"] == 4
    assert found["milliseconds"] > 0
    with pytest.raises(VerificationError, match="by_user: scores differ"):
        verify.verify(directory, _wrong_queries(servable))


def test_a_model_without_histories_is_verified(tmp_path: Path) -> None:
    servable = NumpyOracle(4, 30, 1, history=False).servable
    build.build(servable, tmp_path / "models", config.IndexConfig(), {}, print)
    questions.write(servable, tmp_path)
    measured = checks.check(tmp_path / "models", tmp_path)
    assert measured["retrieval"]["recall_at_100"] == 1.0
