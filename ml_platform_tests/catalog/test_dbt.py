"""dbt's models as nodes and edges: what is followed, what is remembered, and what is said of SQL nobody can read."""

from pathlib import Path

import pytest

from ml_platform.catalog.dbt import Manifest, Project, project_lineage
from ml_platform.catalog.graph import ROWS, ColumnRef, Lineage
from ml_platform_tests.catalog.builders import lineage_of, manifest, ref

SOURCES = {"raw.t": ("id", "v"), "raw.u": ("id", "w")}
GOOD = "select t.id, v + w as x from raw.t join raw.u on t.id = u.id"


def sources_of(lineage: Lineage, name: str) -> set[tuple[str, str]]:
    return {(str(edge.source), edge.how) for edge in lineage.sources(ref(name))}


def test_a_model_without_stated_columns_has_those_of_its_sql_and_hands_them_on():
    lineage = lineage_of(manifest(SOURCES, {"marts.a": GOOD, "marts.b": "select * from marts.a"}))
    assert [column.name for column in lineage.nodes["marts/b"].columns] == ["id", "x"]
    assert sources_of(lineage, "marts/b.x") == {("marts/a.x", "expression")}
    assert sources_of(lineage, "marts/a.x") == {("raw/t.v", "expression"), ("raw/u.w", "expression")}
    assert ("raw/u.id", "key") in sources_of(lineage, "marts/a.*")
    assert lineage.resolved().share == 1


def test_sql_that_cannot_be_parsed_is_suspected_of_everything_that_dbt_says_it_reads():
    lineage = lineage_of(manifest(SOURCES, {"marts.a": "selec id frm raw.t, raw.u"}, a=("id", "x")))
    for column in ("id", "x", ROWS):
        assert sources_of(lineage, f"marts/a.{column}") == {("raw/t.*", "unknown"), ("raw/u.*", "unknown")}
    share = lineage.resolved()
    assert (share.followed, share.columns) == (0, 3)


def test_a_stated_column_that_the_sql_does_not_give_is_suspected():
    lineage = lineage_of(manifest(SOURCES, {"marts.a": "select id from raw.t"}, a=("id", "renamed")))
    assert sources_of(lineage, "marts/a.renamed") == {("raw/t.*", "unknown")}
    assert sources_of(lineage, "marts/a.id") == {("raw/t.id", "expression")}


def test_a_column_that_nobody_states_any_more_is_suspected_to_be_any():
    lineage = lineage_of(manifest(SOURCES, {"marts.a": "select t.gone as x from raw.t"}))
    assert sources_of(lineage, "marts/a.x") == {("raw/t.*", "unknown")}


def test_a_relation_that_nobody_declares_is_never_silently_missing():
    lineage = lineage_of(manifest(SOURCES, {"marts.a": "select x from elsewhere.z"}))
    assert sources_of(lineage, "marts/a.x") == {("marts/a.*", "unknown")}
    assert lineage.resolved().share < 1


def test_a_model_that_reads_itself_has_the_sources_of_the_rest():
    lineage = lineage_of(manifest(SOURCES, {"marts.a": "select id from raw.t union all select id from marts.a"}))
    assert sources_of(lineage, "marts/a.id") == {("raw/t.id", "expression")}


class Compiler:
    """Compiles a project and counts how often it was asked."""

    def __init__(self, stated: Manifest) -> None:
        self.stated = stated
        self.asked = 0

    def __call__(self) -> Manifest:
        self.asked += 1
        return self.stated


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "lineage"


def test_an_unchanged_project_is_neither_compiled_nor_followed_again(cache: Path):
    compiler = Compiler(manifest(SOURCES, {"marts.a": GOOD, "marts.b": "select x from marts.a"}))
    first = project_lineage(Project(compiler.stated, compiler, cache=cache))
    assert project_lineage(Project(compiler.stated, compiler, cache=cache)) == first
    assert compiler.asked == 1


def test_only_what_changed_is_followed_again_and_a_torn_file_is_not_believed(cache: Path):
    compiler = Compiler(manifest(SOURCES, {"marts.a": GOOD, "marts.b": "select id from marts.a"}, a=("id", "x")))
    project_lineage(Project(compiler.stated, compiler, cache=cache))
    kept = (cache / "marts.b.json").stat().st_mtime_ns
    changed = manifest(
        SOURCES, {"marts.a": GOOD.replace("v + w", "w"), "marts.b": "select id from marts.a"}, a=("id", "x")
    )
    _, edges = project_lineage(Project(changed, lambda: changed, cache=cache))
    assert {str(e.source) for e in edges if e.target == ColumnRef("marts/a", "x")} == {"raw/u.w"}
    assert (cache / "marts.b.json").stat().st_mtime_ns == kept
    whole = (cache / "marts.a.json").read_text()
    (cache / "marts.a.json").write_text(whole[: len(whole) // 2])
    assert project_lineage(Project(changed, lambda: changed, cache=cache))[1] == edges
    assert (cache / "marts.a.json").read_text() == whole


def test_what_a_build_has_compiled_is_not_compiled_again(cache: Path):
    compiler = Compiler(manifest(SOURCES, {"marts.a": GOOD}))
    project_lineage(Project(compiler.stated, compiler, built=compiler.stated, cache=cache))
    assert compiler.asked == 0
