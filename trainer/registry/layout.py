"""Moves the files of a staged version to the paths where servers look for files."""

from serving_contract import ITEMS_CSV, MODEL_NAMES, MODELS_CONFIG, SEEN_SQLITE
from trainer.errors import StoreError
from trainer.registry.store import NUMBERED, StagedVersion


def arrange(staged: StagedVersion) -> None:
    """Move each directory in ``NUMBERED`` one level down, and write ``models.config``.

    For example, ``retrieval`` becomes ``retrieval/<version>``.

    Raises:
        StoreError: a required file or directory is missing in the version.
    """
    (staged.directory / MODELS_CONFIG).write_text(_models_config(), encoding="utf-8")
    for name in (*NUMBERED, ITEMS_CSV, SEEN_SQLITE):
        if not (staged.directory / name).exists():
            raise StoreError(f"{staged.directory} has no {name}, so the version is incomplete")
    for name in NUMBERED:
        temporary = staged.directory / f".{name}"
        (staged.directory / name).rename(temporary)
        (staged.directory / name).mkdir()
        temporary.rename(staged.directory / name / str(staged.version))


def _models_config() -> str:
    """Return the content of TensorFlow Serving's model config file, for models in /models."""
    entries = "".join(
        f'  config {{\n    name: "{name}"\n    base_path: "/models/{name}"\n'
        f'    model_platform: "tensorflow"\n  }}\n'
        for name in MODEL_NAMES
    )
    return f"model_config_list {{\n{entries}}}\n"
