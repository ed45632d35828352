"""dbt's models as nodes and edges: from the manifest, and from the SQL that each model compiles to.

What a model's columns are made of depends on its text, the project's macros and the columns of what it reads, and on
nothing else: not on the days of a run, which only stand in filters. Their checksum names what was followed, one small
file a model (`<cache>/<model>.json`), so an unchanged model is not looked at again, and need not be compiled either.
A model whose SQL cannot be followed has `unknown` edges from the rows of everything that dbt says it reads.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ml_platform.catalog.graph import ROWS, Column, ColumnRef, Edge, Kind, Node
from ml_platform.catalog.scopes import Followed, Relation, Source
from ml_platform.catalog.sql import LineageUnknown, follow
from ml_platform.errors import ConfigurationError

FORMAT_VERSION = 2
"""Of a cached file; raise it when what is followed, or how, changes."""
KINDS: Mapping[str, Kind] = {"raw": "raw", "staging": "staging", "marts": "marts", "feature_models": "feature_models"}
TABLES = ("model", "snapshot", "seed")
Manifest = Mapping[str, Any]
"""dbt's manifest.json. One of a build or a compilation holds SQL, of what was selected; one of a mere parse none."""


@dataclass(frozen=True)
class Project:
    """A parsed dbt project. `built`: the manifest of a build that has just compiled some of the models; `compiled`:
    compiles them all, and is asked only for what is neither cached nor built. `folder`: the project's, in the
    repository."""

    manifest: Manifest
    compiled: Callable[[], Manifest]
    built: Manifest | None = None
    cache: Path | None = None
    folder: str = "dbt_project"

    @property
    def resources(self) -> dict[str, Mapping[str, Any]]:
        """Every source, model, snapshot and seed, by dbt's unique id."""
        nodes = {key: node for key, node in self.manifest["nodes"].items() if node["resource_type"] in TABLES}
        return {**self.manifest["sources"], **nodes}

    @cached_property
    def macros(self) -> str:
        """The digest of the project's own macros."""
        own = self.manifest["metadata"]["project_name"]
        texts = [each["macro_sql"] for each in self.manifest["macros"].values() if each["package_name"] == own]
        return hashlib.sha256("".join(sorted(texts)).encode()).hexdigest()


def compile_project(folder: Path) -> Manifest:
    """The manifest with what every model compiles to, for DuckDB and the days that the project itself states: in a
    process of its own, without a warehouse. Raises ConfigurationError."""
    dbt = Path(sys.executable).with_name("dbt")
    stated = {"DBT_TARGET": "local", "DBT_DUCKDB_PATH": ":memory:", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    with tempfile.TemporaryDirectory(prefix="compiled-") as target:
        where = ("--project-dir", str(folder), "--profiles-dir", str(folder), "--target-path", target)
        done = subprocess.run(
            [str(dbt), "--quiet", "compile", "--no-introspect", *where, "--log-path", target],
            cwd=folder,
            env={**os.environ, **stated},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ConfigurationError(
                f"dbt cannot compile the project:\n{done.stdout[-2000:]}{done.stderr[-2000:]}",
                where=folder,
                next_step="mend the file that dbt names, then run again",
            )
        return json.loads((Path(target) / "manifest.json").read_text())


def node_id(resource: Mapping[str, Any]) -> str:
    """`raw/transactions`, `marts/line_changes`: the key of the model's or source's asset, as a path."""
    return f"{resource['fqn'][1]}/{resource['name']}"


def project_lineage(project: Project) -> tuple[dict[str, Node], list[Edge]]:
    """Every source and model by id, in the order data flows, and what each column is made of: from the cache where the
    checksum is known. A model's columns are those that the project states, or else those that its SQL gives."""
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    texts, resources = _Texts(project), project.resources
    for key, resource in _in_order(resources):
        read = {each: nodes[node_id(resources[each])] for each in _reads(resource) if each in resources}
        node = _node(project, resource, read.values())
        if resource["resource_type"] in ("model", "snapshot"):
            found = _cached(project.cache, node)
            if found is None:
                found = _followed(node, key, read, texts.of(key))
                _remember(project.cache, *found)
            node, made = found
            edges += made
        nodes[node.id] = node
    return nodes, edges


class _Texts:
    """Which manifest holds a model's SQL: that of the build, if it built the model, or else that of a compilation."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._compiled: Manifest | None = None

    def of(self, key: str) -> Manifest:
        built = self._project.built
        if built and built["nodes"].get(key, {}).get("compiled_code"):
            return built
        if self._compiled is None:
            self._compiled = self._project.compiled()
        return self._compiled


def _node(project: Project, resource: Mapping[str, Any], read: Iterable[Node]) -> Node:
    meta = resource.get("config", {}).get("meta") or resource.get("meta") or {}
    stage, columns = resource["fqn"][1], resource["columns"].values()
    stated = {
        "format_version": FORMAT_VERSION,
        "text": resource.get("raw_code", ""),
        "macros": project.macros if "raw_code" in resource else "",
        "columns": sorted(resource["columns"]),
        "reads": sorted((node.id, sorted(column.name for column in node.columns)) for node in read),
    }
    return Node(
        id=node_id(resource),
        kind=KINDS.get(stage, "sql"),
        columns=tuple(Column(each["name"].lower(), each["data_type"] or "", each["description"]) for each in columns),
        description=resource["description"],
        owner=meta.get("owner", ""),
        group=stage,
        tags={"stage": stage},
        code=f"{project.folder}/{resource['original_file_path']}",
        checksum=hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest(),
        asset=(stage, resource["name"]),
    )


def _followed(node: Node, key: str, read: Mapping[str, Node], text: Manifest) -> tuple[Node, list[Edge]]:
    """A model with its columns, and the edges into them. Relations are called as the manifest with the text has it."""
    named = {**text["sources"], **text["nodes"]}
    at = {_relation(named[each]): source for each, source in {**read, key: node}.items() if each in named}
    columns = {relation: [column.name for column in source.columns] for relation, source in at.items()}
    try:
        sql = named.get(key, {}).get("compiled_code") or ""
        followed = follow(sql, columns, text["metadata"]["adapter_type"])
    except LineageUnknown:
        followed = untold(at)
    node = node if node.columns else replace(node, columns=tuple(map(Column, followed.columns)))
    return node, edges_into(node, followed, at)


def untold(read: Iterable[Relation]) -> Followed:
    """What is known of a query that cannot be followed: it may be made of anything that it reads."""
    suspects = frozenset(Source(relation, ROWS, "unknown") for relation in read)
    return Followed({}, suspects, suspects)


def edges_into(target: Node, followed: Followed, read: Mapping[Relation, Node]) -> list[Edge]:
    """What was followed, as edges between columns that are there.

    Suspected to be of everything there: a column that the text does not give although it is stated, and one made of a
    column that nobody states (dropped, or renamed). Of a relation nobody states: one edge from the node's own rows.
    """
    rest = followed.everything or untold(read).rows
    edges = set()
    for name in [*(column.name for column in target.columns), ROWS]:
        made = ColumnRef(target.id, name)
        for source in followed.rows if name == ROWS else followed.columns.get(name, rest):
            node = read.get(source.relation)
            if node is None and name != ROWS:
                edges.add(Edge(ColumnRef(target.id, ROWS), made, "unknown"))
            elif node is not None and node.id != target.id:  # an incremental model may read itself
                there = source.column == ROWS or node.column(source.column) is not None
                ref = ColumnRef(node.id, source.column if there else ROWS)
                how = "expression" if source.how == "key" and ref.column == name == ROWS else source.how
                edges.add(Edge(ref, made, how if there else "unknown"))
    return sorted(edges)


def _relation(resource: Mapping[str, Any]) -> Relation:
    return (resource["schema"].lower(), (resource.get("alias") or resource["identifier"]).lower())


def _reads(resource: Mapping[str, Any]) -> list[str]:
    return resource.get("depends_on", {}).get("nodes", [])


def _in_order(resources: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Sources first, then each model after all it reads."""
    waiting = {key: set(_reads(each)) & resources.keys() for key, each in resources.items()}
    readers: dict[str, list[str]] = {}
    for key, reads in waiting.items():
        for each in reads:
            readers.setdefault(each, []).append(key)
    ready = deque(key for key, reads in waiting.items() if not reads)
    while ready:
        key = ready.popleft()
        yield key, resources[key]
        for reader in readers.get(key, ()):
            waiting[reader].discard(key)
            if not waiting[reader]:
                ready.append(reader)


def _cached(cache: Path | None, node: Node) -> tuple[Node, list[Edge]] | None:
    """What was followed before under the node's checksum; None when that was another, or nothing is there."""
    try:
        stated = json.loads(_file(cache, node).read_text()) if cache else {}
        if stated.get("checksum") != node.checksum:
            return None
        whole = node if node.columns else replace(node, columns=tuple(map(Column, stated["columns"])))
        return whole, [Edge(ColumnRef(at, of), ColumnRef(node.id, name), how) for name, at, of, how in stated["edges"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # not there, torn, or of another release
        return None


def _remember(cache: Path | None, node: Node, edges: Iterable[Edge]) -> None:
    if cache is None:
        return
    cache.mkdir(parents=True, exist_ok=True)
    rows = [(edge.target.column, edge.source.node, edge.source.column, edge.how) for edge in edges]
    stated = {"checksum": node.checksum, "columns": [column.name for column in node.columns], "edges": rows}
    aside = _file(cache, node).with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(stated))
    aside.replace(_file(cache, node))


def _file(cache: Path, node: Node) -> Path:
    return cache / f"{node.id.replace('/', '.')}.json"
