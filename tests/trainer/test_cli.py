"""The command line says what was wrong in one line, and leaves nothing behind."""

from pathlib import Path

import pytest

from trainer import config
from trainer.cli import main as cli


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "synthetic", "--set", "training.epoch=3"], "did you mean"),
        (["--dataset", "synthetic", "--config", "tutorail"], "did you mean 'tutorial'"),
        (["--interactions", "absent.csv"], "absent.csv: no such file"),
        (["--dataset", "synthetic", "--items", "i.csv"], "go with --interactions"),
        (["--dataset", "movielens-100k", "--data-dir", "absent"], "is not MovieLens 100K"),
    ],
)
def test_mistakes(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models_dir = tmp_path / "models"
    assert cli.main(["run", *arguments, "--models-dir", str(models_dir)]) == 1
    assert message in capsys.readouterr().err
    assert not models_dir.exists()


def test_a_file_called_like_a_preset_is_not_configured_by_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used: list[config.Config] = []
    monkeypatch.setattr(
        cli, "_run", lambda _parsed, _dataset, settings, _console: used.append(settings) or 0
    )
    clicks = tmp_path / "tutorial.csv"
    clicks.write_text("user_id,item_id\na,x\n")
    assert cli.main(["run", "--interactions", str(clicks), "--models-dir", str(tmp_path)]) == 0
    assert used == [config.PRESETS["default"]]


def test_a_directory_that_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    models_dir = tmp_path / "file" / "models"
    assert cli.main(["run", "--dataset", "synthetic", "--models-dir", str(models_dir)]) == 1
    assert str(models_dir) in capsys.readouterr().err


def test_a_catalogue_of_two(tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.csv"
    items = ('"x,1"', '"line\nbreak"')
    clicks.write_text(
        "user_id,item_id\n" + "".join(f"{user},{item}\n" for user in "abcd" for item in items)
    )
    models_dir = tmp_path / "models"
    small = ["--set", "training.batch_size=2", "--set", "training.epochs=1"]
    arguments = ["run", "--interactions", str(clicks), "--models-dir", str(models_dir), *small]
    assert cli.main(arguments) == 0
    assert cli.main(arguments) == 0
    assert [path.name for path in (models_dir / "retrieval").iterdir()] == ["2"]
    assert sorted(path.name for path in (models_dir / "versions").iterdir()) == ["1", "2"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,x\n", "leaves 1 rows to train on and 0 to test"),
        ("a,x\nb,x\nc,x\nd,x\n", "no user has two different items"),
    ],
)
def test_data_that_nothing_can_be_learnt_from(
    rows: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clicks.csv").write_text("user_id,item_id\n" + rows)
    models_dir = tmp_path / "models"
    arguments = ["run", "--interactions", str(tmp_path / "clicks.csv"), "--models-dir"]
    assert cli.main([*arguments, str(models_dir)]) == 1
    assert message in capsys.readouterr().err
    assert not list(models_dir.iterdir())
