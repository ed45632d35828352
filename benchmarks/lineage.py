"""Lineage: the whole graph of this repository, and a project of a thousand models followed from nothing and again."""

import tempfile
from pathlib import Path

from benchmarks.rows import Row, run_json, seconds_of, this_python

MODELS, COLUMNS, LAYERS = 1_000, 30, 10
GOAL_SECONDS, GOAL_SYNTHETIC_SECONDS = 2.0, 30.0
REPEATS = 3
THIS_REPOSITORY = """
import json, sys, time
from dataclasses import replace
from assets.columns import declared
from ml_platform.catalog.build import build_lineage
from ml_platform.catalog.dbt import compile_project
from resources.dbt import FOLDER
compiled = compile_project(FOLDER)
before = declared()
fresh = replace(before, project=replace(before.project, compiled=lambda: compiled, cache=None))
import ml_platform.predictions, sqlglot.optimizer
def took():
    began = time.perf_counter()
    graph = build_lineage(fresh)
    return time.perf_counter() - began, graph.resolved().share, len(graph.edges)
print(json.dumps(min(took() for _ in range(int(sys.argv[1])))))
"""


def measure() -> list[Row]:
    """Seconds from a compiled project to the graph: nothing cached, then everything."""
    ours, share, edges = run_json(this_python(), ["-W", "ignore", "-c", THIS_REPOSITORY, str(REPEATS)])
    cold, warm = _synthetic()
    note = f"{edges:,} edges, {share:.0%} of the columns made by SQL followed, nothing cached, the best of {REPEATS}"
    return [
        Row("Lineage of this repository", ours, "s", goal=GOAL_SECONDS, note=note),
        Row(
            f"… of {MODELS:,} models × {COLUMNS} columns",
            cold,
            "s",
            goal=GOAL_SYNTHETIC_SECONDS,
            note="synthetic: joins, windows, unions, CTEs and stars; nothing cached",
        ),
        Row("… again, nothing changed", warm, "s"),
    ]


def _synthetic() -> tuple[float, float]:
    """Seconds of the first and of the second time."""
    from ml_platform.catalog.dbt import Project, project_lineage
    from ml_platform.catalog.graph import Lineage

    stated = synthetic_manifest(MODELS, COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        project = Project(stated, lambda: stated, cache=Path(folder) / "lineage")

        def build() -> None:
            nodes, edges = project_lineage(project)
            graph = Lineage(nodes, tuple(sorted(edges)))
            if graph.resolved().share < 1:
                raise RuntimeError(f"only {graph.resolved().share:.1%} of the columns could be followed")

        return seconds_of(build), seconds_of(build)


def synthetic_manifest(models: int, columns: int) -> dict:
    """A compiled project: each model reads two of the layer before it, in one of four shapes."""
    names = [f"c{number}" for number in range(columns - 1)]
    stated = {name: {"name": name, "data_type": "bigint", "description": ""} for name in ["id", *names]}
    keys = {}
    nodes, sources = {}, {}
    per_layer = models // LAYERS
    for number in range(per_layer):
        keys[number] = f"source.p.s{number}"
        sources[keys[number]] = _resource("raw", f"s{number}", stated) | {"resource_type": "source"}
    for number in range(models):
        before = number // per_layer * per_layer - per_layer
        reads = [before + number % per_layer, before + (number * 7 + 1) % per_layer]
        relations = [f"marts.m{each}" if each >= 0 else f"raw.s{each + per_layer}" for each in reads]
        sql = _SHAPES[number % len(_SHAPES)](names, *relations)
        parents = [f"model.p.m{each}" if each >= 0 else f"source.p.s{each + per_layer}" for each in reads]
        text = {"raw_code": sql, "compiled_code": sql, "depends_on": {"nodes": parents}, "resource_type": "model"}
        nodes[f"model.p.m{number}"] = _resource("marts", f"m{number}", stated) | text
    return {
        "metadata": {"project_name": "p", "adapter_type": "duckdb"},
        "macros": {},
        "sources": sources,
        "nodes": nodes,
    }


def _resource(schema: str, name: str, columns: dict) -> dict:
    place = {"fqn": ["p", schema, name], "name": name, "schema": schema, "identifier": name}
    return {**place, "columns": columns, "description": "", "original_file_path": f"models/{name}.sql"}


def _joined(names: list[str], left: str, right: str) -> str:
    made = ", ".join(f"coalesce(l.{name}, 0) + r.{name} as {name}" for name in names)
    return f"select l.id, {made} from {left} as l left join {right} as r on l.id = r.id where l.{names[0]} > 0"


def _windowed(names: list[str], left: str, right: str) -> str:
    made = ", ".join(f"sum({name}) over (partition by id order by {names[0]}) as {name}" for name in names)
    return (
        f"with l as (select * from {left}), w as (select id, {made} from l) "
        f"select w.* from w semi join {right} using (id)"
    )


def _united(names: list[str], left: str, right: str) -> str:
    made = ", ".join(f"sum({name}) as {name}" for name in names)
    return f"with u as (select * from {left} union all select * from {right}) select id, {made} from u group by id"


def _chained(names: list[str], left: str, right: str) -> str:
    steps = ", ".join(f"case when {name} > 0 then {name} end as {name}" for name in names)
    picked = ", ".join(f"b.{name}" for name in names)
    return (
        f"with a as (select id, {steps} from {left}), b as (select id, {steps} from a where id > 0) "
        f"select b.id, {picked} from b inner join (select distinct id from {right}) as d on b.id = d.id"
    )


_SHAPES = (_joined, _windowed, _united, _chained)
