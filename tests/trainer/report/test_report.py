"""The HTML page and the terminal tables show what metrics.json contains."""

import copy
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from trainer import report
from trainer.report import metrics as parts
from trainer.report import plots, tables

MODELS = ("two towers", "popularity", "item-kNN", "EASE", "iALS")
HOSTILE = "<script>alert('x')</script> & \"Sons\" </style>"


def _point(k: int, rescored: int, recall: float) -> dict[str, Any]:
    return {
        **{"kind": "hashing", "dimensions_per_block": 2, "anisotropic_threshold": 0.2},
        **{"items": 5_000, "k": k, "rescored": rescored, "recall": recall},
        **{"milliseconds": 0.1234, "queries_per_second_of_32": 9876.5},
    }


def _figures(random: np.random.Generator, keys: list[str]) -> dict[str, float]:
    return {key: float(random.random()) for key in keys}


@pytest.fixture
def metrics() -> dict[str, Any]:
    random = np.random.default_rng(0)
    top = [f"top_{k}" for k in (1, 5, 10, 50, 100)]
    per_user = [f"{metric}_at_{k}" for metric in ("recall", "ndcg") for k in (10, 100)]

    def quality() -> dict[str, dict[str, float]]:
        return {
            "all_items": _figures(random, top),
            "unseen_items": _figures(random, top),
            "per_user": _figures(random, per_user),
        }

    def slices(count: int) -> list[dict[str, Any]]:
        return [
            {"label": f"{n} to {n + 1}", "rows": 1000 + n, "top_100": _figures(random, [*MODELS])}
            for n in range(count)
        ]

    return {
        "dataset": {
            "name": HOSTILE,
            "users": 1943,
            "items": 11_682,
            "train": 80_123,
            "test": 20_456,
            "split": "random, seed 42",
        },
        "version": 17,
        "test": quality(),
        "baselines": {name: quality() for name in MODELS[1:]},
        "baselines_left_out": {"slow": "left out: " + HOSTILE},
        "slices": {"item_popularity": slices(10), "user_history": slices(5)},
        "coverage": {name: _figures(random, ["top_10", "top_100"]) for name in MODELS},
        "learning_curve": {"epoch": [1, 2], "loss": [5.5, 4.25], "validation": [0.1, 0.2]},
        "similar_items": [
            {
                "item_id": "1",
                "title": HOSTILE,
                "similar": [{"item_id": "2", "title": HOSTILE, "score": 0.75}],
            }
        ],
        "index": {
            "retrieval": {
                **{"kind": "hashing", "reason": "the cheapest", "target_recall": 0.95},
                **{"recall_at_100": 0.987654, "queries": 512},
                **{"milliseconds": 0.4567, "queries_per_second_of_32": 4567.8},
                "by_k": [_point(1, 20, 0.97), _point(100, 300, 0.96)],
                "tried": [_point(100, 300, 0.96), _point(100, 500, 0.99)],
                "frontier": [_point(100, 100, 0.8), _point(100, 300, 0.96)],
            },
            "retrieval_exact": {
                **{"kind": "exact", "recall_at_100": 1.0, "queries": 512},
                **{"milliseconds": 1.5, "queries_per_second_of_32": 321.0},
            },
        },
        "train_seconds": 12.34,
        "train_interactions_per_second": 56_789.0,
        "config": {"seed": 42, "model": {"embedding_dim": 64, "normalize": True}},
        "versions": {"tensorflow": "2.20.0"},
    }


class _Page(HTMLParser):
    """Collects table rows, bold texts and attributes; fails if tags do not match."""

    _VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.bold: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"th", "td"} & set(self._open):
            self.rows[-1][-1] += data
        if self._open and self._open[-1] == "strong":
            self.bold.append(data)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def test_page_fetches_nothing(metrics: dict[str, Any]) -> None:
    text = report.html(metrics)
    page = _Page(text)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert value.startswith("#"), (tag, name, value)
            assert value[1:] in page.ids, "the marker or clip path exists"
    assert {tag for tag, _, _ in page.attributes}.isdisjoint({"script", "link", "iframe", "img"})
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert all(address.startswith("http://www.w3.org/") for address in addresses), "namespaces"
    assert len(page.ids) == len(set(page.ids))


def test_texts_are_escaped(metrics: dict[str, Any]) -> None:
    text = report.html(metrics)
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;Sons&#34;") == 5


def test_tables_contain_the_metrics(metrics: dict[str, Any]) -> None:
    page = _Page(report.html(metrics))
    rows = {(row[0], *row[1:]) for row in page.rows}
    models = {"two towers": metrics["test"], **metrics["baselines"]}
    expected = {
        (name, *(f"{figure:.4f}" for figure in quality[key].values()))
        for name, quality in models.items()
        for key in ("all_items", "unseen_items")
    }
    for name, quality in models.items():
        of_users = quality["per_user"]
        keys = ("recall_at_10", "recall_at_100", "ndcg_at_10", "ndcg_at_100")
        expected.add((name, *(f"{of_users[key]:.4f}" for key in keys)))
        expected.add((name, *(f"{figure:.4f}" for figure in metrics["coverage"][name].values())))
        for parts_ in metrics["slices"].values():
            expected.add((name, *(f"{part['top_100'][name]:.4f}" for part in parts_)))
    expected |= {
        ("retrieval", "hashing: the cheapest", "0.9877", "512", "0.457", "4,568"),
        ("retrieval_exact", "exact", "1.0000", "512", "1.500", "321"),
        ("hashing", "2", "0.2", "5,000", "1", "20", "0.9700", "0.123", "9,876"),
        ("hashing", "2", "0.2", "5,000", "100", "300", "0.9600", "0.123", "9,876"),
        ("hashing", "2", "0.2", "5,000", "100", "500", "0.9900", "0.123", "9,876"),
        ("model.normalize", "true"),
        ("model.embedding_dim", "64"),
        ("seed", "42"),
        ("tensorflow", "2.20.0"),
    }
    headings = {row for row in rows if row[0] in ("model", "kind")}
    assert rows - headings == expected
    assert ("model", "top-1", "top-5", "top-10", "top-50", "top-100") in headings
    assert ("model", *(f"{n} to {n + 1}\n{1000 + n:,} rows" for n in range(5))) in headings


def test_best_figure_of_every_column_is_bold(metrics: dict[str, Any]) -> None:
    metrics["baselines"]["EASE"]["all_items"]["top_1"] = 0.99991
    metrics["test"]["all_items"]["top_1"] = 0.99989  # Equal when rounded to four digits.
    (table,) = (one for one in tables.quality(metrics) if "all_items" in one.title)
    best = [model for model, cells in table.rows.items() if cells[0].best]
    assert best == ["two towers", "EASE"]
    for column in range(1, 5):
        values = {model: float(cells[column].text) for model, cells in table.rows.items()}
        (best_model,) = (model for model, cells in table.rows.items() if cells[column].best)
        assert values[best_model] == max(values.values())
    bold = _Page(report.html(metrics)).bold
    # One per column (5 + 5 + 4 for quality, 2 for coverage, 10 + 5 for slices), and the tie.
    assert len(bold) == 14 + 2 + 15 + 1
    assert bold.count("0.9999") == 2


def test_headline_compares_with_the_best_baseline(metrics: dict[str, Any]) -> None:
    metrics["test"]["unseen_items"]["top_100"] = 0.6543
    metrics["baselines"]["iALS"]["unseen_items"]["top_100"] = 0.9871
    text = report.html(metrics)
    assert "<dt>unseen_items top-100; best baseline (iALS): 98.7%</dt><dd>65.4%</dd>" in text
    assert "<dt>recall@100 of the index retrieval</dt><dd>98.8%</dd>" in text
    assert "<dt>training time</dt><dd>12.3 s</dd>" in text
    assert "1,943 users, 11,682 items, 80,123 training and 20,456 test rows" in text
    assert "version 17" in text


def test_plots_and_tables_have_labels_for_screen_readers(metrics: dict[str, Any]) -> None:
    text = report.html(metrics)
    labels = re.findall(r"<svg role='img' aria-label=\"([^\"]+)\"", text)
    assert len(labels) == text.count("<svg") == 4
    assert labels[3].startswith("Training loss by epoch, from 5.5 to 4.25. The last unseen_items")
    page = _Page(text)
    assert sum(tag == "th" and name == "scope" for tag, name, _ in page.attributes) == sum(
        len(re.findall("<th[ >]", line)) for line in text.splitlines()
    )


def test_every_line_has_a_colour_in_light_and_dark_mode(metrics: dict[str, Any]) -> None:
    text = report.html(metrics)
    for number in range(plots.SERIES):
        assert text.count(f"--series-{number}:") == 2
    # Every placeholder colour was replaced.
    svg = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.findall("#0[123]0[012]0[0-6]", svg)
    assert {f"var(--series-{number})" for number in range(5)} <= set(
        re.findall(r"var\(--series-\d\)", svg)
    )


@pytest.mark.parametrize(
    "without",
    [
        *("version", "baselines_left_out", "slices", "coverage", "learning_curve"),
        *("similar_items", "config", "versions", "train_interactions_per_second"),
    ],
)
def test_optional_part_may_be_missing(metrics: dict[str, Any], without: str) -> None:
    whole = report.html(metrics)
    del metrics[without]
    assert len(report.html(metrics)) < len(whole)


def test_page_needs_only_the_required_parts(metrics: dict[str, Any]) -> None:
    needed = ("dataset", "test", "baselines", "index", "train_seconds")
    least = {key: copy.deepcopy(metrics[key]) for key in needed}
    for quality in (least["test"], *least["baselines"].values()):
        del quality["per_user"]
    for part in ("by_k", "tried", "frontier", "reason"):
        del least["index"]["retrieval"][part]
    text = report.html(least)
    assert "<svg" not in text
    assert len(_Page(text).bold) == 10


def test_learning_curve_without_validation_has_one_panel(metrics: dict[str, Any]) -> None:
    both = report.html(metrics)
    metrics["learning_curve"]["validation"] = []
    text = report.html(metrics)
    assert "validation rows" in both
    assert "validation rows" not in text
    assert "training loss" in text


def test_page_is_deterministic(metrics: dict[str, Any]) -> None:
    assert report.html(metrics) == report.html(copy.deepcopy(metrics))


def test_write_creates_both_files(metrics: dict[str, Any], tmp_path: Path) -> None:
    report.write(tmp_path / "1", metrics)
    assert {path.name for path in (tmp_path / "1").iterdir()} == {"metrics.json", "report.html"}


def test_terminal_shows_all_quality_figures(metrics: dict[str, Any]) -> None:
    metrics["dataset"]["name"] = "[red]clicks"
    console = Console(file=io.StringIO(), width=120, highlight=False)
    report.show(console, metrics)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]clicks: 1,943 users" in text
    for quality in (metrics["test"], *metrics["baselines"].values()):
        for part in quality.values():
            for figure in part.values():
                assert f"{figure:.4f}" in text
    assert "slow: left out: <script>" in text
    assert "retrieval: hashing (the cheapest), recall@100 0.9877, 0.46 ms per query" in text


def test_similar_items_are_the_nearest_neighbours_of_popular_items() -> None:
    vectors = np.array([[1, 0], [2, 1], [0, 3], [1, 0]], np.float32)
    popularity = np.array([5, 9, 1, 5], np.float32)
    ids, titles = np.array(list("abcd"), object), np.array(["A", "B", "C", "D"], object)
    found = parts.similar_items(None, vectors, popularity, ids, titles, items=2, neighbours=2)
    assert found == [
        {
            "item_id": "b",
            "title": "B",
            "similar": [
                {"item_id": "c", "title": "C", "score": 3.0},
                {"item_id": "a", "title": "A", "score": 2.0},
            ],
        },
        {
            "item_id": "a",
            "title": "A",
            "similar": [
                {"item_id": "b", "title": "B", "score": 2.0},
                {"item_id": "d", "title": "D", "score": 1.0},
            ],
        },
    ]
    whole = parts.similar_items(None, vectors, popularity, ids, titles)
    assert [len(one["similar"]) for one in whole] == [3, 3, 3, 3]
    alone = parts.similar_items(None, vectors[:1], popularity[:1], ids[:1], titles[:1])
    assert alone == [{"item_id": "a", "title": "A", "similar": []}]
    # With trained queries, c follows a.
    queries = np.array([[0, 1], [1, 0], [1, 0], [1, 0]], np.float32)
    trained = parts.similar_items(queries, vectors, popularity, ids, titles, neighbours=1)
    assert [one["similar"][0]["item_id"] for one in trained] == ["a", "c", "b", "b"]
