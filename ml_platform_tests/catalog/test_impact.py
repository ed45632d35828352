"""What a change touches, in a small repository of git's own and a small lineage."""

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

import assets.columns
import ml_platform.cli.impact
from ml_platform.catalog.build import Declared
from ml_platform.catalog.dbt import Project
from ml_platform.catalog.graph import Column as LineageColumn
from ml_platform.catalog.graph import ColumnRef, Edge, Kind, Lineage, Node
from ml_platform.catalog.impact import dbt_files, find_impact, reached
from ml_platform.catalog.impact_text import code, markdown
from ml_platform.catalog.revisions import GitRefused, changed_files, resolve
from ml_platform.cli import app

SPEC = '"""A model."""\nSPEC = 1\n"""Said of it."""\n'
PROPERTIES = "models:\n  - name: a\n    description: old\n    columns: [{name: x, description: old}]\n"
FILES = {"dbt/models/a.sql": "select 1", "dbt/models/schema.yml": PROPERTIES, "specs/m.py": SPEC, "README.md": "old"}


class Repository:
    """A real one, with one commit on main."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "-q", "-b", "main")
        for path, text in FILES.items():
            self.write(path, text)
        self.commit()

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(self.root), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "more")

    def impact(self, base: str = "main"):
        revision = resolve(self.root, base)
        return find_impact(LINEAGE, revision, changed_files(self.root, revision), dbt_files(PROJECT))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "clone with a space")


def node(id_: str, kind: Kind, owner: str, place: str = "", *columns: str, version: int | None = None) -> Node:
    made = tuple(map(LineageColumn, columns or ("x",)))
    return Node(id_, kind, made, owner=owner, code=place, version=version)


def edge(source: str, target: str) -> Edge:
    (at, column), (to, made) = source.split("."), target.split(".")
    return Edge(ColumnRef(at, column), ColumnRef(to, made), "expression")


NODES = (
    node("marts/a", "marts", "", "dbt/models/a.sql"),
    node("marts/b", "marts", "", "dbt/models/b.sql"),
    node("features/f", "features", "team:features", "features/f.py", "x", "y"),
    node("models/m", "model", "team:m", "specs/m.py:2", version=3),
    node("predictions/m", "predictions", "team:m", "specs/m.py:2", version=3),
    node("models/n", "model", "team:n", "specs/n.py:2"),
)
EDGES = ("marts/a.x features/f.x", "marts/b.x features/f.y", "features/f.x models/m.x", "models/m.x predictions/m.x")
LINEAGE = Lineage(
    {each.id: each for each in NODES}, tuple(sorted(edge(*each.split()) for each in (*EDGES, "marts/b.x models/n.x")))
)


def resource(name: str, macros: list[str]) -> dict:
    used = {"macros": macros, "nodes": []}
    said = {
        "original_file_path": f"models/{name}.sql",
        "patch_path": "shop://models/schema.yml" if name == "a" else None,
    }
    return {"resource_type": "model", "name": name, "fqn": ["shop", "marts", name], "depends_on": used, **said}


def macro(package: str, *uses: str) -> dict:
    return {"package_name": package, "original_file_path": "macros/m.sql", "depends_on": {"macros": list(uses)}}


MANIFEST = {
    "metadata": {"project_name": "shop"},
    "sources": {},
    "nodes": {"model.shop.a": resource("a", []), "model.shop.b": resource("b", ["macro.dbt.outer"])},
    "macros": {"macro.dbt.outer": macro("dbt", "macro.shop.inner"), "macro.shop.inner": macro("shop")},
}
PROJECT = Project(MANIFEST, lambda: MANIFEST, folder="dbt")


def test_a_changed_model_reaches_features_models_predictions_and_their_owners(repository: Repository) -> None:
    repository.write("dbt/models/a.sql", "select 2")
    found = repository.impact()
    assert found.touched == {"marts/a": ("dbt/models/a.sql",)} and not found.suspected
    (features,) = reached(LINEAGE, found, "features")
    (model,) = reached(LINEAGE, found, "model")
    assert (features.node.id, features.columns) == ("features/f", 1)
    assert (model.node.id, model.certain, model.because) == ("models/m", True, ("marts/a",))
    told = markdown(LINEAGE, found)
    assert "| `models/m` | yes | v3 | `marts/a` | `team:m` |" in told and "| `features/f` | 1 of 2 |" in told
    assert "**Who should know:** `team:features`, `team:m`" in told and "models/n" not in told


def test_a_macro_reaches_its_models_and_the_platforms_own_code_is_only_suspected(
    repository: Repository,
) -> None:
    repository.write("dbt/macros/m.sql", "{% macro inner() %}{% endmacro %}")
    repository.write("ml_platform/training/trainers/xgboost.py", "ROUNDS = 2")
    found = repository.impact()
    assert found.touched == {"marts/b": ("dbt/macros/m.sql",)}
    assert set(found.suspected) == {"models/m", "models/n"}
    assert {each.node.id: each.certain for each in reached(LINEAGE, found, "model")} == {
        "models/m": True,
        "models/n": True,
    }
    repository.write("dbt/macros/m.sql", "")
    (repository.root / "dbt/macros/m.sql").unlink()
    assert {each.certain for each in reached(LINEAGE, repository.impact(), "model", "predictions")} == {False}


def test_what_the_same_file_makes_is_one_line_and_the_nearest_change_is_named_first(repository: Repository) -> None:
    repository.write("specs/m.py", "SPEC = 2\n")
    repository.write("dbt/models/a.sql", "select 2")
    found = repository.impact()
    told = markdown(LINEAGE, found)
    assert "| `models/m`, `predictions/m` | `specs/m.py` | `team:m` |  |" in told
    assert "| `models/m` | yes | v3 | `models/m`, `marts/a` | `team:m` |" in told


def test_words_alone_touch_nothing_and_what_is_gone_still_counts(repository: Repository) -> None:
    repository.write("specs/m.py", '"""Another word."""\n\nSPEC = (1)  # said\n')
    repository.write("dbt/models/schema.yml", PROPERTIES.replace("old", "new"))
    repository.write("README.md", "new")
    quiet = repository.impact()
    assert quiet.quiet == ("dbt/models/schema.yml", "specs/m.py") and quiet.others == ("README.md",)
    assert not quiet.touched and "No feature, no model and no prediction." in markdown(LINEAGE, quiet)
    repository.write("dbt/models/schema.yml", PROPERTIES.replace("name: x", "name: y"))
    repository.write("specs/m.py", "SPEC = (")
    (repository.root / "dbt/models/a.sql").unlink()
    assert set(repository.impact().touched) == {"marts/a", "models/m", "predictions/m"}


def test_a_branch_is_compared_with_where_it_was_left(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "mine")
    repository.write("specs/m.py", "SPEC = 2\n")
    repository.commit()
    repository.git("checkout", "-q", "main")
    repository.write("dbt/models/a.sql", "select 3")
    repository.commit()
    repository.git("checkout", "-q", "mine")
    assert set(repository.impact().touched) == {"models/m", "predictions/m"}


@pytest.mark.parametrize(
    "ref", ["--output=stolen", "-h", "$(touch stolen)", "main; touch stolen", "main..main", "", "a\0b", "origin/main"]
)
def test_a_ref_that_is_none_is_refused_and_never_run(ref: str, repository: Repository) -> None:
    with pytest.raises(GitRefused, match="git knows no commit"):
        resolve(repository.root, ref)
    assert not list(repository.root.rglob("stolen"))


def test_a_near_ref_is_named_and_a_folder_without_git_is_told(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(GitRefused) as refused:
        resolve(repository.root, "mian")
    assert refused.value.next_step == "did you mean main?"
    with pytest.raises(GitRefused, match="not a git repository"):
        resolve(tmp_path, "main")


def test_hostile_paths_stay_paths(repository: Repository) -> None:
    names = ["-rf", "a`b``c`", "x | y", "<script>alert(1)</script>", "line\n| `models/m` | yes |", "$(touch stolen)"]
    for name in names:
        repository.write(name.replace("/", "∕"), "")
    found = repository.impact()
    assert set(found.others) == {name.replace("/", "∕") for name in names}
    told = markdown(LINEAGE, found)
    assert "\n| `models/m`" not in told and "- `<script>alert(1)<∕script>`" in told
    assert not list(repository.root.glob("stolen"))
    assert code("a`b``c`") == "``` a`b``c` ```" and code("x | y\n") == "`x \\| y\N{REPLACEMENT CHARACTER}`"


def test_mlp_impact_says_so_when_nothing_differs_and_tells_programs_what_does(
    repository: Repository, declared: Declared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ml_platform.cli.impact, "REPOSITORY", repository.root)
    monkeypatch.setattr(assets.columns, "declared", lambda: declared)
    asked = ["impact", "--base", "main"]
    assert CliRunner().invoke(app, asked).stdout.startswith("Nothing differs from main")
    repository.write("dbt_project/models/marts/redemption_day_deltas.sql", "select 1")
    assert "| `models/coupon_redemption` | yes |" in CliRunner().invoke(app, asked).stdout
    told = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert list(told["touched"]) == ["marts/redemption_day_deltas"] and told["suspected"] == {}
    assert {row["node"]: row["owner"] for row in told["models"]}["models/coupon_redemption"] == "team:campaigns"
