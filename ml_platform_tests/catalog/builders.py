"""Small dbt projects as manifests, and graphs drawn by hand."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_platform.catalog.dbt import Manifest, Project, project_lineage
from ml_platform.catalog.graph import Column, ColumnRef, Edge, How, Lineage, Node


def manifest(sources: Mapping[str, Sequence[str]], models: Mapping[str, str], **stated: Sequence[str]) -> Manifest:
    """A project as dbt has compiled it. `models`: SQL by `schema.name`; `stated`: a model's columns by its name, where
    the project states them."""
    keys = {name: f"source.p.{name}" for name in sources} | {name: f"model.p.{name}" for name in models}

    def resource(name: str, columns: Sequence[str], **more: Any) -> dict[str, Any]:
        schema, table = name.split(".")
        described = {each: {"name": each, "data_type": None, "description": ""} for each in columns}
        place = {
            "fqn": ["p", schema, table],
            "name": table,
            "schema": schema,
            "identifier": table,
            "columns": described,
        }
        return {**place, "description": "", "original_file_path": f"models/{table}.sql", **more}

    nodes = {}
    for name, sql in models.items():
        reads = [
            keys[each] for each in dict.fromkeys(re.findall(r"\b\w+\.\w+\b", sql)) if each in keys and each != name
        ]
        text = {"raw_code": sql, "compiled_code": sql, "depends_on": {"nodes": reads}, "resource_type": "model"}
        nodes[keys[name]] = resource(name, stated.get(name.split(".")[1], ()), **text)
    return {
        "metadata": {"project_name": "p", "adapter_type": "duckdb"},
        "macros": {},
        "sources": {keys[name]: resource(name, columns, resource_type="source") for name, columns in sources.items()},
        "nodes": nodes,
    }


def lineage_of(stated: Manifest) -> Lineage:
    """The graph of a project alone."""
    nodes, edges = project_lineage(Project(stated, lambda: stated))
    return Lineage(nodes, tuple(sorted(edges)))


def drawn(columns: Mapping[str, Sequence[str | Column]], *edges: str) -> Lineage:
    """A graph drawn by hand: columns by node, and edges such as `raw/t.a -> marts/m.b` or `… ?> …` (unknown)."""
    nodes = {
        id_: Node(id_, "sql", tuple(each if isinstance(each, Column) else Column(each) for each in names))
        for id_, names in columns.items()
    }
    return Lineage(nodes, tuple(sorted(map(_edge, edges))))


def ref(name: str) -> ColumnRef:
    node, _, column = name.strip().rpartition(".")
    return ColumnRef(node, column)


def _edge(text: str) -> Edge:
    for arrow, how in _HOW.items():
        source, found, target = text.partition(arrow)
        if found:
            return Edge(ref(source), ref(target), how)
    raise ValueError(text)


_HOW: Mapping[str, How] = {"->": "expression", "?>": "unknown", "=>": "key"}
