"""What a spec becomes: training set, model, embeddings and predictions as nodes, and how their columns are made.

A training set is labels beside features as they were known; the model reads the training set's columns (of a ranker the
catalogue of its items too), and a prediction is made of every input of the model. The keys of a prediction are those of
the feature table whose rows are scored.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ml_platform.catalog.champions import Champion
from ml_platform.catalog.graph import ROWS, Column, ColumnRef, Edge, How, Kind, Node
from ml_platform.contracts import AS_OF, FeatureTable
from ml_platform.contracts import Column as Promised
from ml_platform.training.job import column_of
from ml_platform.training.spec import ModelSpec


def model_lineage(
    spec: ModelSpec, features: Mapping[str, FeatureTable], champion: Champion | None
) -> tuple[list[Node], list[Edge]]:
    """The nodes of a model in the order data flows, and every edge into them."""
    parts = [_training_set(spec, features), _model(spec, features, champion)]
    parts += [_embeddings(spec, features, champion)] if spec.items else []
    parts.append(_predictions(spec, features, champion))
    return [node for node, _ in parts], [edge for _, edges in parts for edge in edges]


def inputs(spec: ModelSpec, features: Mapping[str, FeatureTable]) -> tuple[str, ...]:
    """References of everything the model reads: its features, and of a ranker what describes its items."""
    items = features[spec.items].values if spec.items else ()
    return (*spec.features, *(f"{spec.items}:{column.name}" for column in items))


def label_column(spec: ModelSpec) -> Column:
    """What is to be learnt: a flag, or the ids of a list."""
    dtype, unit = ("int8", "flag") if spec.task == "classify" else ("list[int64]", "id")
    return Column("label", dtype, f"What is predicted: {spec.description}", unit)


def _training_set(spec: ModelSpec, features: Mapping[str, FeatureTable]) -> tuple[Node, list[Edge]]:
    id_, labels = f"models/{spec.name}/training_set", f"labels/{spec.name}"
    key = _population(spec, features)
    columns = [
        *(_column(key.column(name)) for name in spec.entity),
        _column(AS_OF),
        Column("role", "string", "What the row is for: train, stop, calibrate or evaluate", "name"),
        label_column(spec),
        *(_promised(each, features) for each in spec.features),
        *(
            Column(f"{table}__as_of", "date", f"Monday of the row's features of {table}", "date")
            for table in spec.tables
        ),
    ]
    edges = [_edge(labels, name, id_, name) for name in (*spec.entity, "as_of", "label")]
    edges += [_edge(labels, "as_of", id_, "role"), _edge(labels, ROWS, id_, ROWS)]
    edges += [_edge(*_place(each), id_, column_of(each)) for each in spec.features]
    for table in spec.tables:
        edges.append(_edge(f"features/{table}", "as_of", id_, f"{table}__as_of"))
        edges += [_edge(f"features/{table}", name, id_, ROWS, "key") for name in features[table].key]
    description = f"Rows {spec.name} learns from and is judged on, as known before the cutoff."
    return _node(spec, id_, "training_set", columns, description), edges


def _model(spec: ModelSpec, features: Mapping[str, FeatureTable], champion: Champion | None) -> tuple[Node, list[Edge]]:
    id_, training_set = f"models/{spec.name}", f"models/{spec.name}/training_set"
    shares = champion.importance if champion else {}
    columns, edges = [], [_edge(training_set, "label", id_, ROWS, "key"), _edge(training_set, ROWS, id_, ROWS)]
    for reference in inputs(spec, features):
        name, own = column_of(reference), reference in spec.features
        columns.append(_promised(reference, features, shares.get(reference)))
        edges.append(_edge(training_set, name, id_, name) if own else _edge(*_place(reference), id_, name))
    node = _node(spec, id_, "model", columns, spec.description, champion, asset=("models", spec.name, "champion"))
    return node, edges


def _embeddings(
    spec: ModelSpec, features: Mapping[str, FeatureTable], champion: Champion | None
) -> tuple[Node, list[Edge]]:
    id_, model = f"models/{spec.name}/embeddings", f"models/{spec.name}"
    columns = [
        Column("kind", "string", "Whether the vector is of an item or of an entity", "name"),
        Column("id", "int64", "Of the item or the entity", "id"),
        _column(AS_OF),
        Column("model_version", "int64", "Version in the ledger that made the vector", "id"),
        Column("vector", "list[float32]", "Comparable only within one model_version"),
    ]
    edges = [_edge(model, ROWS, id_, "model_version"), _edge(model, ROWS, id_, ROWS)]
    edges += [_edge(model, column_of(each), id_, "vector") for each in inputs(spec, features)]
    for table in (_population(spec, features).name, *([spec.items] if spec.items else [])):
        edges.append(_edge(f"features/{table}", "as_of", id_, "as_of"))
        edges += [_edge(f"features/{table}", name, id_, "id") for name in features[table].entity]
        edges.append(_edge(f"features/{table}", ROWS, id_, ROWS))
    return _node(spec, id_, "embeddings", columns, f"Vectors of {spec.name}.", champion), edges


def _predictions(
    spec: ModelSpec, features: Mapping[str, FeatureTable], champion: Champion | None
) -> tuple[Node, list[Edge]]:
    from ml_platform.features.store import FeatureStore
    from ml_platform.predictions import contract

    id_, model = f"predictions/{spec.name}", f"models/{spec.name}"
    population = f"features/{_population(spec, features).name}"
    promised = contract(spec, FeatureStore(Path(), features))
    read = [column_of(each) for each in inputs(spec, features)]
    items = features[spec.items].entity if spec.items else ()
    edges = [_edge(population, ROWS, id_, ROWS), _edge(model, ROWS, id_, ROWS)]
    for column in promised.columns:
        name = column.name
        if name in spec.entity:
            edges.append(_edge(population, name, id_, name))
        elif name in ("as_of", "feature_as_of"):
            edges.append(_edge(population, "as_of", id_, name))
        elif name == "model_version":
            edges.append(_edge(model, ROWS, id_, name))
        elif name == "data_digest":
            edges += [_edge(f"features/{table}", ROWS, id_, name) for table in spec.reads]
        elif name in items:
            edges.append(_edge(f"features/{spec.items}", name, id_, name))
            edges += [_edge(model, each, id_, name, "key") for each in read]
        elif name != "role":
            edges += [_edge(model, each, id_, name) for each in read]
    node = _node(spec, id_, "predictions", map(_column, promised.columns), promised.description, champion)
    return node, edges


def _node(
    spec: ModelSpec,
    id_: str,
    kind: Kind,
    columns: Iterable[Column],
    description: str,
    champion: Champion | None = None,
    asset: tuple[str, ...] | None = None,
) -> Node:
    return Node(
        id=id_,
        kind=kind,
        columns=tuple(columns),
        description=description,
        owner=spec.owner,
        group=spec.name,
        tags={"stage": kind, "model": spec.name},
        checksum=spec.digest(),
        asset=asset or tuple(id_.split("/")),
        version=champion.version if champion else None,
    )


def _population(spec: ModelSpec, features: Mapping[str, FeatureTable]) -> FeatureTable:
    from ml_platform.features.store import FeatureStore
    from ml_platform.predictions import population_table

    return population_table(spec, FeatureStore(Path(), features))


def _promised(reference: str, features: Mapping[str, FeatureTable], importance: float | None = None) -> Column:
    """A feature as a column of who reads it; bare where its table no longer has it."""
    table, _, name = reference.partition(":")
    found = next((column for column in features[table].columns if column.name == name), None)
    return _column(found, column_of(reference), importance) if found else Column(column_of(reference))


def _place(reference: str) -> tuple[str, str]:
    table, _, column = reference.partition(":")
    return f"features/{table}", column


def _column(promised: Promised, name: str = "", importance: float | None = None) -> Column:
    said = (promised.dtype, promised.description, promised.unit, promised.pii)
    return Column(name or promised.name, *said, importance=importance)


def _edge(source: str, column: str, target: str, made: str, how: How = "expression") -> Edge:
    return Edge(ColumnRef(source, column), ColumnRef(target, made), how)
