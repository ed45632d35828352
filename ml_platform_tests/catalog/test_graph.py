"""The graph by itself: names, ways, personal data, changes and pictures. Names are as hostile as they come."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from ml_platform.catalog.graph import Column, ColumnRef, Lineage, Node
from ml_platform.catalog.names import UnknownName, find
from ml_platform.catalog.picture import markdown, picture
from ml_platform.catalog.table import changes_since, publish, views_path
from ml_platform.catalog.uses import used_by
from ml_platform.catalog.walk import Branch, dot, tree
from ml_platform_tests.catalog.builders import drawn, ref

HOSTILE = '<script>alert("1")</script>\x1b[31m\\"]'
DIAMOND = drawn(
    {"raw/t": ["a", "b"], "marts/l": ["x"], "marts/r": ["x"], "features/f": ["y"]},
    *("raw/t.a -> marts/l.x", "raw/t.a -> marts/r.x", "raw/t.b => marts/r.x"),
    *("marts/l.x -> features/f.y", "marts/r.x -> features/f.y"),
)


def flat(branch: Branch) -> list[str]:
    return [branch.name + (" (seen)" if branch.seen else ""), *(name for each in branch.beyond for name in flat(each))]


def test_a_way_is_found_from_both_ends_and_keys_are_no_way():
    up = {str(edge.source) for edge in DIAMOND.upstream(ref("features/f.y"))}
    assert up == {"marts/l.x", "marts/r.x", "raw/t.a"}
    assert {str(edge.target) for edge in DIAMOND.downstream(ref("raw/t.a"))} == {
        "marts/l.x",
        "marts/r.x",
        "features/f.y",
    }
    assert DIAMOND.downstream(ref("raw/t.b")) == []
    assert DIAMOND.below(["raw/t"]) == ["raw/t", "marts/l", "marts/r", "features/f"]
    assert DIAMOND.above(["marts/r"]) == ["raw/t", "marts/r"]


def test_a_tree_opens_each_step_once():
    assert flat(tree(DIAMOND, ref("raw/t.a"), up=False)) == [
        "raw/t.a", "marts/l.x", "features/f.y", "marts/r.x", "features/f.y",
    ]  # fmt: skip
    chain = drawn({"a": ["x"], "b": ["x"], "c": ["x"]}, "a.x -> b.x", "b.x -> c.x", "a.x -> c.x")
    assert flat(tree(chain, ref("c.x"), up=True)) == ["c.x", "a.x", "b.x", "a.x"]
    longer = drawn(
        {"z": ["x"], "a": ["x"], "b": ["x"], "c": ["x"]}, "z.x -> a.x", "a.x -> b.x", "b.x -> c.x", "a.x -> c.x"
    )
    assert flat(tree(longer, ref("c.x"), up=True)) == ["c.x", "a.x", "z.x", "b.x", "a.x (seen)"]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("raw.t.a", "raw/t.a"),
        ("raw/t.a", "raw/t.a"),
        ("raw/t/a", "raw/t.a"),
        ("features/f.y", "features/f.y"),
        ("f:y", "features/f.y"),
        ("raw.t.*", "raw/t.*"),
    ],
)
def test_a_column_answers_to_every_way_of_writing_its_name(said: str, found: str):
    assert str(find(DIAMOND, said)) == found


def test_a_node_answers_to_its_id_and_to_its_assets_key():
    model = Node("models/m", "model", (), asset=("models", "m", "champion"))
    lineage = Lineage({model.id: model}, ())
    assert find(lineage, "models/m") == find(lineage, "models.m.champion") == model


@pytest.mark.parametrize(
    ("said", "near"),
    [
        *(("raw.t.aa", "raw/t.a, raw/t.b?"), ("features/g", "features/f"), ("RAW.T.A", "raw/t.a"), ("b", "raw/t.b")),
        (HOSTILE, "name a thing"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(said: str, near: str):
    with pytest.raises(UnknownName) as unknown:
        find(DIAMOND, said)
    assert near in unknown.value.next_step


def test_a_column_of_the_landed_file_is_found_and_suggested_under_the_raw_tables_name():
    told = drawn({"landing/t": ["sales_value"], "raw/t": ["sales_cents"]})
    assert find(told, "raw.t.sales_value") == ref("landing/t.sales_value")
    with pytest.raises(UnknownName) as unknown:
        find(told, "raw.t.sales_valu")
    assert "did you mean landing/t.sales_value" in str(unknown.value) and "*" not in str(unknown.value)


def test_personal_data_flows_along_values_and_suspicions_but_not_along_keys():
    lineage = drawn(
        {
            "raw/p": [Column("id", pii="pseudonymous"), Column("age", pii="personal"), "n"],
            "m": ["v", "w", "x"],
            "o": ["z"],
        },
        *("raw/p.age -> m.v", "raw/p.id => m.v", "raw/p.* ?> m.w", "raw/p.n -> m.x", "m.v -> o.z"),
    )
    assert [str(edge.source) for edge in lineage.pii_paths(ref("o.z"))["personal"]] == ["raw/p.age", "m.v"]
    assert lineage.pii_paths(ref("o.z")).keys() == {"personal"}
    assert lineage.pii_paths(ref("m.w")).keys() == {"pseudonymous", "personal"}
    assert lineage.pii_paths(ref("m.x")) == {}
    assert lineage.pii_paths(ref("raw/p.age")) == {"personal": []}
    assert {edge.target for edge in lineage.downstream(ref("raw/p.age"))} == {ref("m.v"), ref("m.w"), ref("o.z")}


def test_who_uses_a_node_is_told_with_version_and_importance():
    nodes = {
        "raw/t": Node("raw/t", "raw", (Column("a"), Column("b"))),
        "models/m": Node("models/m", "model", (Column("x", importance=0.75), Column("y", importance=0.25)), version=3),
    }
    lineage = Lineage(nodes, drawn({}, "raw/t.a -> models/m.x").edges)
    (row,) = used_by(lineage, "raw/t")
    assert (row["used_by"], row["columns"], row["champion"], row["importance"]) == ("models/m", "1 of 2", "v3", "75.0%")


def test_a_picture_is_well_formed_whatever_the_names_hold():
    lineage = drawn(
        {HOSTILE: [HOSTILE, "b"], "marts/m": ["x"]}, f"{HOSTILE}.{HOSTILE} -> marts/m.x", "marts/m.x ?> q.z"
    )
    lineage = replace(lineage, nodes={**lineage.nodes, "q": Node("q", "sql", (Column("z"),), description=HOSTILE)})
    for node in lineage.nodes:
        drawing = picture(lineage, node)
        ElementTree.fromstring(drawing)
        assert "<script" not in drawing and "\x1b" not in drawing
    assert "stroke-dasharray" in picture(lineage, "q")
    said = markdown(drawing, HOSTILE)
    assert said.startswith("![") and "](data:image/svg+xml;base64," in said and said.count("[") == 1 and "<" not in said


def test_graphviz_text_quotes_every_name():
    lineage = drawn({HOSTILE: ["a"], "m": ["x"]}, f"{HOSTILE}.a -> m.x")
    said = dot(lineage, ref("m.x"), up=True, down=True)
    (line,) = [line for line in said.splitlines() if "->" in line]
    assert line == '  "<script>alert(\\"1\\")</script>�[31m\\\\\\"].a" -> "m.x";'


def test_the_tables_are_queried_with_sql_and_say_what_was_dropped_renamed_and_added(tmp_path: Path):
    assert changes_since(DIAMOND, tmp_path) == []
    first = publish(DIAMOND, tmp_path)
    assert {name: table.digest for name, table in publish(DIAMOND, tmp_path).items()} == {
        name: table.digest for name, table in first.items()
    }
    with duckdb.connect(str(views_path(tmp_path)), read_only=True) as connection:
        ancestry = connection.sql("select source_node, source_column, steps from ancestry where node = 'features/f'")
        assert set(ancestry.fetchall()) == {("marts/l", "x", 1), ("marts/r", "x", 1), ("raw/t", "a", 2)}
        assert connection.execute("select count(*) from columns").fetchone() == (5,)
    moved = drawn(
        {"raw/t": ["a"], "marts/l": ["better"], "marts/r": ["x", "new"], "features/f": ["y"]},
        *("raw/t.a -> marts/l.better", "raw/t.a -> marts/r.x", "marts/l.better -> features/f.y"),
    )
    assert sorted(map(str, changes_since(moved, tmp_path))) == [
        "marts/l.x was renamed to better", "marts/r.new was added", "raw/t.b was dropped",
    ]  # fmt: skip


def test_rows_lead_to_what_is_counted_and_to_nothing_else():
    lineage = drawn({"t": ["a"], "m": ["n", "b"]}, "t.* -> m.n", "t.a -> m.b", "t.* -> m.*")
    assert {edge.target for edge in lineage.downstream(ColumnRef("t", "*"))} == {ref("m.n"), ref("m.*")}
    assert [edge.target for edge in lineage.downstream(ref("t.a"))] == [ref("m.b")]
