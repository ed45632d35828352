"""The catalogue's page: one file, no network, and whatever a name holds stays text, also in a real browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest

from ml_platform.catalog.graph import Column, ColumnRef, Edge, Lineage, Node
from ml_platform.catalog.site import Distribution, Drifted, Figures, Standing, distribution, page

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
COLUMN = "</script><script>document.title='owned'</script>"
RAW, FEATURES = f"raw/{HOSTILE}", "features/f"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def lineage() -> Lineage:
    nodes = (
        Node(RAW, "raw", (Column(COLUMN, "</td>", f"{COLUMN}\u2028&amp;", pii="personal"),), owner="<b>team</b>"),
        Node(FEATURES, "features", (Column("x", "int64", "What it is", "count"),), "Features", "team:features"),
        Node("models/m", "model", (Column("f__x", "int64", importance=0.25),), "A model", "team:m", version=3),
    )
    edges = (
        Edge(ColumnRef(RAW, COLUMN), ColumnRef(FEATURES, "x"), "expression"),
        Edge(ColumnRef(FEATURES, "x"), ColumnRef("models/m", "f__x"), "expression"),
    )
    return Lineage({node.id: node for node in nodes}, edges)


FIGURES = Figures(
    distributions={"features/f.x": Distribution((3, 1), ("0", HOSTILE), 0.25)},
    standings={"features/f": Standing("2018-01-01", 4, (f"{HOSTILE}: broken",), broken=True)},
    drift={"m": {"f:x": Drifted(0.31, 0.01)}},
    importance={"m": {"f:x": 0.25}},
)


class Parsed(HTMLParser):
    """The elements of a page, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1] == "script" and data.strip():
            self.scripts.append(data)


def test_no_name_can_end_the_data_and_all_of_it_arrives() -> None:
    parsed = Parsed(page(lineage(), FIGURES, HOSTILE))
    assert parsed.elements.count("script") == 2 and "img" not in parsed.elements and "b" not in parsed.elements
    data = json.loads(parsed.scripts[0])
    raw, features, _ = data["nodes"]
    assert (raw["id"], raw["owner"], raw["columns"][0]["name"]) == (RAW, "<b>team</b>", COLUMN)
    assert raw["columns"][0]["said"] == f"{COLUMN}\u2028&amp;" and raw["columns"][0]["pii"] == "personal"
    (column,) = features["columns"]
    assert column["spread"] == {"bars": [3, 1], "labels": ["0", HOSTILE], "nulls": 0.25}
    assert column["models"] == [{"model": "m", "importance": 0.25, "psi": 0.31, "noise": 0.01}]
    assert column["pii"] == "personal" and features["standing"]["broken"] is True
    assert data["edges"] == [[0, 0, 1, 0, 0], [1, 0, 2, 0, 0]]


def test_the_page_asks_nothing_of_a_network_and_is_the_same_again() -> None:
    text = page(lineage(), FIGURES, "Catalogue")
    assert set(re.findall(r"\bhttps?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text and not re.search(r"<(link|img|iframe|script)[^>]*\b(src|href)=", text)
    assert "innerHTML" not in text and "insertAdjacent" not in text and "document.write" not in text
    assert page(lineage(), FIGURES, "Catalogue") == text


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize(
    ("node", "shown"), [(RAW, ["&lt;img src=x", "&lt;b&gt;team"]), (FEATURES, ["0.310", "25 %", 'class="bar"'])]
)
def test_a_browser_draws_it_from_a_file_and_runs_nothing_of_a_name(node: str, shown: list[str], tmp_path: Path) -> None:
    place = tmp_path / "catalog.html"
    place.write_text(page(lineage(), FIGURES, "Catalogue"), encoding="utf-8")
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}")
    command = [
        str(CHROMIUM),
        *quiet,
        "--virtual-time-budget=2000",
        "--dump-dom",
        f"{place.as_uri()}#{quote(node, safe='')}",
    ]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert "<title>Catalogue</title>" in drawn and "<img" not in drawn
    assert "<svg" in drawn and all(words in drawn for words in shown), drawn[-3000:]


@pytest.mark.parametrize(
    ("values", "bars", "labels", "nulls"),
    [
        (pl.Series([], dtype=pl.Int64), (), (), 0.0),
        (pl.Series([None, None], dtype=pl.Float64), (), (), 1.0),
        (pl.Series([7, 7, None, 7]), (3,), ("7", "7"), 0.25),
        (pl.Series([True, False, True]), (2, 1), ("true", "false"), 0.0),
        (pl.Series(["b", "a", "b", None]), (2, 1), ("b", "a"), 0.25),
        (pl.Series([[1], [1, 2], []]), (1, *[0] * 9, 1, *[0] * 8, 1), ("0", "2"), 0.0),
    ],
)
def test_a_distribution_is_of_what_is_known(values: pl.Series, bars: tuple, labels: tuple, nulls: float) -> None:
    assert distribution(values) == Distribution(bars, labels, nulls)


def test_one_odd_value_does_not_flatten_the_picture() -> None:
    found = distribution(pl.Series([*range(1000), 10**12]))
    assert max(found.bars) < 100 and sum(found.bars) == 1001
