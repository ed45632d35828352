"""The lineage of a deployment, put together from what it declares: raw tables, dbt's project, contracts, models.

Nothing is read from the warehouse or the lake: what a model is trained on and what a prediction is made of follows from
its spec, as it does in `training.sets` and `predictions`. Of what was trained only the champions' versions and
importances come in, through `champions`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

from ml_platform.catalog.champions import Champion
from ml_platform.catalog.dbt import Project, edges_into, project_lineage, untold
from ml_platform.catalog.graph import ROWS, SQL_KINDS, Column, ColumnRef, Edge, How, Lineage, Node
from ml_platform.catalog.models import label_column, model_lineage
from ml_platform.catalog.scopes import Followed, Relation, Source
from ml_platform.catalog.sql import LineageUnknown, follow
from ml_platform.contracts import FeatureTable
from ml_platform.landing.tables import RawTable
from ml_platform.settings import REPOSITORY
from ml_platform.training.spec import ModelSpec

UNIT_OF_ENDING = {"_id": "id", "_upc": "id", "_cents": "cents", "_cents_delta": "cents", "_delta": "count"}
"""As names are given here; the first that fits counts."""
UNIT_OF_TYPE = {
    "date": "date", "date32": "date", "instant": "UTC", "timestamp": "UTC", "boolean": "flag", "bool": "flag",
    "string": "name", "varchar": "name",
}  # fmt: skip


@dataclass(frozen=True)
class Declared:
    """What a deployment declares. `code`: file of the repository, by node, of what is declared in Python."""

    project: Project
    raw: Mapping[str, RawTable]
    features: Mapping[str, FeatureTable]
    models: Mapping[str, ModelSpec]
    code: Mapping[str, str] = field(default_factory=dict)


def build_lineage(declared: Declared, champions: Mapping[str, Champion] | None = None) -> Lineage:
    """The whole graph. Raises ConfigurationError when dbt cannot compile a project that has to be."""
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    stated, made = project_lineage(declared.project)
    for table in declared.raw.values():
        landing, raw, landed = _landing(table, stated.get(f"raw/{table.name}"))
        nodes[landing.id], stated[raw.id] = landing, raw
        edges += landed
    nodes |= stated
    edges += made
    for feature in declared.features.values():
        node, made = _features(feature, nodes)
        nodes |= {node.id: node, **_with_contract(feature, nodes)}
        edges += made
    for spec in declared.models.values():
        labels, made = _labels(spec, declared.features, nodes)
        nodes[labels.id] = labels
        edges += made
        more, made = model_lineage(spec, declared.features, (champions or {}).get(spec.name))
        nodes |= {node.id: node for node in more}
        edges += made
    named = {id_: replace(node, code=declared.code.get(id_, node.code)) for id_, node in nodes.items()}
    return Lineage(_with_units(named, edges), tuple(sorted({_there(edge, named) for edge in edges})))


def _landing(table: RawTable, stated: Node | None) -> tuple[Node, Node, list[Edge]]:
    """The landed file, the raw table with what dbt says of its columns, and how the one becomes the other."""
    said = {column.name: column.description for column in stated.columns} if stated else {}
    landed_words = {made.source: said.get(made.name, "") for made in reversed(table.columns)}
    units = {made.name: "cents" for made in table.columns if made.conversion == "cents"}
    landing = Node(
        id=f"landing/{table.name}",
        kind="landing",
        columns=tuple(
            Column(
                each.name,
                each.type,
                landed_words.get(each.name, ""),
                "dollars" if each.name in table.dollars else "",
                table.pii.get(each.name),
            )
            for each in table.landed
        ),
        description=table.description,
        owner=table.owner,
        group="landing",
        tags={"stage": "landing"},
        code="ml_platform/landing/tables.py",
        checksum=_digest(asdict(table)),
    )
    raw = replace(
        landing,
        id=f"raw/{table.name}",
        kind="raw",
        columns=(
            *(
                Column(made.name, made.type, said.get(made.name, ""), units.get(made.name, ""))
                for made in table.columns
            ),
            Column("landed_on", "date", said.get("landed_on", "")),
        ),
        group="raw",
        tags={"stage": "raw"},
        asset=("raw", table.name),
    )
    at = _edges_between(landing.id, raw.id)
    edges = [at(made.source, made.name) for made in table.columns]
    edges += [at(ROWS, "landed_on"), at(ROWS, ROWS), *(at(name, ROWS, "key") for name in table.key)]
    return landing, raw, edges


def _features(table: FeatureTable, nodes: Mapping[str, Node]) -> tuple[Node, list[Edge]]:
    """A feature table has its relation's columns, checked and published."""
    node = Node(
        id=f"features/{table.name}",
        kind="features",
        columns=tuple(Column(each.name, each.dtype, each.description, each.unit, each.pii) for each in table.columns),
        description=table.description,
        owner=table.owner,
        group="features",
        tags={"stage": "features"},
        checksum=_digest([asdict(column) for column in table.columns], table.relation, table.ttl_days),
        asset=("features", table.name),
    )
    relation = _relation(table.relation)
    columns = {each.name: frozenset({Source(relation, each.name, "expression")}) for each in table.columns}
    keys = {Source(relation, name, "key") for name in table.key} | {Source(relation, ROWS, "key")}
    return node, edges_into(node, Followed(columns, frozenset(keys)), _known(nodes, [relation]))


def _with_contract(table: FeatureTable, nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The relation of a feature table, with the units that its contract states of the same columns."""
    units = {column.name: column.unit for column in table.columns}
    found = _known(nodes, [_relation(table.relation)]).values()
    return {
        node.id: replace(node, columns=tuple(replace(each, unit=units.get(each.name, "")) for each in node.columns))
        for node in found
    }


def _labels(
    spec: ModelSpec, features: Mapping[str, FeatureTable], nodes: Mapping[str, Node]
) -> tuple[Node, list[Edge]]:
    """The label's query: it says which rows a training set has, and what is to be learnt of them."""
    sql = spec.label.sql.read_text()
    key = next((table.columns for table in features.values() if table.entity == spec.entity), ())
    types = {column.name: column.dtype for column in key}
    label = label_column(spec)
    node = Node(
        id=f"labels/{spec.name}",
        kind="labels",
        columns=(*(Column(name, types.get(name, "")) for name in (*spec.entity, "as_of")), label),
        description=f"What {spec.name} learns, {spec.label.horizon_days} days after each Monday.",
        owner=spec.owner,
        group=spec.name,
        tags={"stage": "labels", "model": spec.name},
        code=str(spec.label.sql.relative_to(REPOSITORY)) if spec.label.sql.is_relative_to(REPOSITORY) else "",
        checksum=_digest(sql),
    )
    read = {_relation(id_.replace("/", ".")): each for id_, each in nodes.items() if each.kind in ("raw", *SQL_KINDS)}
    try:
        followed = follow(sql, {relation: [c.name for c in each.columns] for relation, each in read.items()}, "duckdb")
    except LineageUnknown:
        read = _known(nodes, [("marts", mart) for mart in spec.label.reads])
        followed = untold(read)
    return node, edges_into(node, followed, read)


def _edges_between(source: str, target: str) -> "Callable[..., Edge]":
    def edge(column: str, made: str, how: How = "expression") -> Edge:
        return Edge(ColumnRef(source, column), ColumnRef(target, made), how)

    return edge


def _there(edge: Edge, nodes: Mapping[str, Node]) -> Edge:
    """The edge, or, where its source is a column that nobody declares any more, one from all that there is."""
    source = edge.source
    if source.column == ROWS or nodes[source.node].column(source.column):
        return edge
    return Edge(ColumnRef(source.node, ROWS), edge.target, "unknown")


def _with_units(nodes: Mapping[str, Node], edges: list[Edge]) -> dict[str, Node]:
    """A column without a stated unit has that of the column of the same name that it is made of, or else what its name
    or its type says."""
    sources: dict[ColumnRef, list[ColumnRef]] = {}
    for edge in edges:
        if edge.how == "expression" and edge.source.column == edge.target.column:
            sources.setdefault(edge.target, []).append(edge.source)
    units: dict[ColumnRef, str] = {}
    named = {}
    for id_, node in nodes.items():
        columns = []
        for column in node.columns:
            ref = ColumnRef(id_, column.name)
            inherited = {units.get(source, "") for source in sources.get(ref, ())}
            unit = column.unit or (inherited.pop() if len(inherited) == 1 else "") or _unit(column)
            units[ref] = unit
            columns.append(replace(column, unit=unit))
        named[id_] = replace(node, columns=tuple(columns))
    return named


def _unit(column: Column) -> str:
    """The unit that a name says by its ending, or else a type by itself."""
    return next((unit for ending, unit in UNIT_OF_ENDING.items() if column.name.endswith(ending)), "") or (
        UNIT_OF_TYPE.get(column.dtype, "")
    )


def _known(nodes: Mapping[str, Node], relations: list[Relation]) -> dict[Relation, Node]:
    return {relation: nodes["/".join(relation)] for relation in relations if "/".join(relation) in nodes}


def _relation(name: str) -> Relation:
    schema, _, table = name.partition(".")
    return schema, table


def _digest(*stated: object) -> str:
    return hashlib.sha256(json.dumps(stated, sort_keys=True, default=str).encode()).hexdigest()
