"""Mistakes on the command line are reported in one line and leave nothing behind."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tools.processes import ROOT
from trainer import config
from trainer.cli import training_data
from trainer.cli.main import main, parser


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "synthetic", "--set", "training.epoch=3"], "did you mean"),
        (["--dataset", "synthetic", "--config", "tutorail"], "did you mean 'tutorial'"),
        (["--interactions", "absent.csv"], "absent.csv: no such file"),
        (["--dataset", "synthetic", "--items", "i.csv"], "need --interactions"),
        (["--dataset", "movielens-100k", "--data-dir", "absent"], "does not contain MovieLens"),
    ],
)
def test_mistake_is_reported_and_creates_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models_dir = tmp_path / "models"
    assert main(["run", *arguments, "--models-dir", str(models_dir)]) == 1
    assert message in capsys.readouterr().err
    assert not models_dir.exists()


@pytest.mark.parametrize(
    ("arguments", "preset"),
    [
        (["--interactions", "tutorial.csv"], "default"),
        (["--interactions", "tutorial.csv", "--config", "tutorial"], "tutorial"),
        (["--dataset", "synthetic"], "default"),
    ],
)
def test_file_named_like_a_preset_does_not_select_it(
    arguments: list[str], preset: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tutorial.csv").write_text("user_id,item_id\na,x\n")
    parsed = parser().parse_args(["run", *arguments, "--models-dir", "models"])
    _, settings = training_data.load(parsed, Console(file=io.StringIO()))
    assert settings == config.PRESETS[preset]


def test_models_dir_that_cannot_be_created_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    models_dir = tmp_path / "file" / "models"
    assert main(["run", "--dataset", "synthetic", "--models-dir", str(models_dir)]) == 1
    assert str(models_dir) in capsys.readouterr().err


def test_catalogue_of_two_items_is_published_twice(tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.csv"
    items = ('"x,1"', '"line\nbreak"')
    clicks.write_text(
        "user_id,item_id\n" + "".join(f"{user},{item}\n" for user in "abcd" for item in items)
    )
    models_dir = tmp_path / "models"
    small = ["--set", "training.batch_size=2", "--set", "training.epochs=1"]
    small += ["--set", "training.validation_share=0"]
    arguments = ["run", "--interactions", str(clicks), "--models-dir", str(models_dir), *small]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert [path.name for path in (models_dir / "retrieval").iterdir()] == ["2"]
    assert sorted(path.name for path in (models_dir / "versions").iterdir()) == ["1", "2"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,x\n", "leaves 1 training rows and 0 test rows"),
        ("a,x\nb,x\nc,x\nd,x\n", "no user has two different items"),
    ],
)
def test_data_with_too_few_rows_is_an_error(
    rows: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clicks.csv").write_text("user_id,item_id\n" + rows)
    models_dir = tmp_path / "models"
    arguments = ["run", "--interactions", str(tmp_path / "clicks.csv"), "--models-dir"]
    assert main([*arguments, str(models_dir)]) == 1
    assert message in capsys.readouterr().err
    assert not list(models_dir.iterdir())


def test_parsing_arguments_does_not_import_tensorflow() -> None:
    code = "import sys, trainer.cli.main as cli; cli.parser(); print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
