"""Check that what the documentation names exists: links, files, commands, flags and settings."""

import contextlib
import io
import re
import runpy
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest

from trainer.config import Config

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")],
    key=lambda path: str(path.relative_to(ROOT)),
)
#: The programs whose flags are checked, with their commands.
COMMANDS = {
    "trainer": [
        "run",
        "tune",
        "index",
        "refresh",
        "versions",
        "promote",
        "rollback",
        "gc",
        "verify",
    ],
    "query_service": [
        "serve",
        "ask",
        "health",
        "bench",
        "token",
        "seen import",
        "seen add",
        "seen show",
        "seen forget",
    ],
    "model_server": [""],
    "benchmarks.chaos": [""],
    "tests.fuzz": ["request-path", "predict", "csv", "service"],
}
#: What a reader is to put in place of a command.
PLACEHOLDERS = ("...", "COMMAND", "seen")
#: File names in examples.
EXAMPLE_FILES = ("tokens.toml", "tuned.toml")
#: Directories that are not part of the repository.
OUTPUT_DIRECTORIES = {"build", "data", "models"}

_FENCE = re.compile(r"^```.*?^```", re.M | re.S)
_SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_PATH = re.compile(r"[\w.*-]+(/[\w.*-]+)*/?")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*(?![\w-])")
_COMMAND = re.compile(r"python -m ([\w.]+)([^\n`#|]*)")

document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@document
def test_links_and_anchors_resolve(path: Path) -> None:
    prose = _FENCE.sub("", path.read_text(encoding="utf-8"))
    broken = []
    for link in _LINK.findall(prose):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


@document
def test_files_that_are_named_exist(path: Path) -> None:
    directories = {entry.name for entry in ROOT.iterdir() if entry.is_dir()} - OUTPUT_DIRECTORIES

    def is_repository_file(span: str) -> bool:
        if "/" in span:
            looks_like_one = span.split("/")[0] in directories or span.endswith(".py")
            return looks_like_one and bool(_PATH.fullmatch(span))
        return bool(re.fullmatch(r"[\w.-]+\.(toml|yml)", span)) and span not in EXAMPLE_FILES

    named = filter(is_repository_file, _spans(path))
    assert [file for file in named if not list(ROOT.glob(file.removesuffix("/")))] == []


@document
def test_commands_and_their_flags_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    wrong = []
    for module, rest in _COMMAND.findall(text):
        if module not in COMMANDS:
            if module.split(".")[0] in ("benchmarks", "tests") and not find_spec(module):
                wrong.append(module)
            continue
        words = rest.split()
        matches = [one for one in COMMANDS[module] if one.split() == words[: len(one.split())]]
        if words and not matches and words[0] not in PLACEHOLDERS:
            wrong.append(f"{module} {words[0]}")
        known = _flags(module, matches[0]) if matches else _all_flags(module)
        wrong += [
            f"{module} {rest.strip()}: {one}" for one in _FLAG.findall(rest) if one not in known
        ]
    assert wrong == []


@pytest.mark.parametrize(
    # The benchmarks have flags of their own.
    "path",
    [path for path in DOCUMENTS if path.parent.name != "benchmarks"],
    ids=lambda path: path.name,
)
def test_flags_in_the_text_exist(path: Path) -> None:
    known = set().union(*map(_all_flags, COMMANDS))
    flags = {flag for span in _spans(path) if span.startswith("--") for flag in _FLAG.findall(span)}
    assert flags - known == set()


@document
def test_make_targets_exist(path: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    text = path.read_text(encoding="utf-8")
    code = "\n".join([*_FENCE.findall(text), *_spans(path)])
    assert set(re.findall(r"^make ([a-z-]+)", code, re.M)) <= set(targets)


@document
def test_settings_in_the_text_exist(path: Path) -> None:
    sections = {name: value for name, value in vars(Config()).items() if name != "seed"}
    text = path.read_text(encoding="utf-8")
    named = re.findall(rf"[`\s=]({'|'.join(sections)})\.([a-z_]+)(?=[=`])", text)
    named = [(section, name) for section, name in named if name not in ("md", "py", "html")]
    assert [one for one in named if not hasattr(sections[one[0]], one[1])] == []


def _spans(path: Path) -> list[str]:
    """Return the inline code of a document, without code blocks."""
    prose = _FENCE.sub("", path.read_text(encoding="utf-8"))
    return [" ".join(span.split()) for span in _SPAN.findall(prose)]


def _anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document."""
    prose = _FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@cache
def _flags(module: str, command: str) -> set[str]:
    """Return the flags that a command's ``--help`` lists."""
    output = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [module, *command.split(), "--help"]),
        contextlib.redirect_stdout(output),
        pytest.raises(SystemExit),
    ):
        runpy.run_module(module, run_name="__main__")
    return set(_FLAG.findall(output.getvalue()))


def _all_flags(module: str) -> set[str]:
    return set().union(*(_flags(module, command) for command in COMMANDS[module]))
