"""The lineage of this deployment, and how Dagster shows it: each asset's columns with description, unit and PII class,
the columns they are made of, and the file that declares them.

It follows from the declarations and from dbt's project, so it costs a fraction of a second, opens no warehouse, and is
worked out where it is needed. What a build has compiled is followed by that build; otherwise the project is compiled
once for each version of its text.
"""

import importlib
import json
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import dagster as dg

import assets.feature_tables
import assets.models
from assets.common import table_of
from ml_platform.contracts import FeatureTable
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.settings import REPOSITORY
from ml_platform.training.spec import ModelSpec
from ml_platform.wording import listed
from resources.dbt import FOLDER, manifest_path

if TYPE_CHECKING:
    from ml_platform.catalog.build import Declared
    from ml_platform.catalog.champions import Champion
    from ml_platform.catalog.graph import ColumnRef, Lineage, Node

MODEL_STAGES = ("champion", "candidate")
PII_CHECK = "only_allowed_pii"
SCHEMA = "dagster/column_schema"
SOURCES_SHOWN = 5


def declared(built: Mapping[str, Any] | None = None, *, with_sql: bool = True) -> "Declared":
    """Everything this deployment declares. `built`: the manifest of a build that has just compiled. Without SQL nothing
    is compiled, and what dbt makes is of unknown columns."""
    from ml_platform.catalog.build import Declared
    from ml_platform.catalog.dbt import Project, compile_project

    path = manifest_path()
    parsed = json.loads(path.read_text())
    project = (
        Project(parsed, lambda: compile_project(FOLDER), built, FOLDER / "target" / "lineage", FOLDER.name)
        if with_sql
        else Project(parsed, lambda: parsed)
    )
    tables, models = assets.feature_tables.FEATURE_TABLES, assets.models.MODELS
    return Declared(project, RAW_TABLES, tables, models, _code())


def lineage_now(
    champions: "Mapping[str, Champion] | None" = None,
    built: Mapping[str, Any] | None = None,
    *,
    model: ModelSpec | None = None,
    with_sql: bool = True,
) -> "Lineage":
    """The lineage as the checkout declares it; see `declared`. `model`: the one whose asset asks, which need not stand
    in `assets/models`."""
    from ml_platform.catalog.build import build_lineage

    known = assets.models.MODELS
    if not champions and not built and (model is None or known.get(model.name) == model):
        read = [manifest_path(), *(spec.label.sql for spec in known.values())]
        return _of_text(tuple(path.stat().st_mtime_ns for path in read), with_sql)
    stated = declared(built, with_sql=with_sql)
    if model:
        stated = replace(stated, models={**stated.models, model.name: model})
    return build_lineage(stated, champions)


@lru_cache(2)
def _of_text(changed: tuple[int, ...], with_sql: bool) -> "Lineage":
    """Built once in a process for one state of the files it is read from: the steps of a run often share one."""
    from ml_platform.catalog.build import build_lineage

    return build_lineage(declared(with_sql=with_sql))


def show_columns(
    context: dg.AssetExecutionContext,
    graph: "Lineage",
    *keys: dg.AssetKey,
    constraints: Mapping[str, dg.TableColumnConstraints] | None = None,
    users: bool = True,
) -> None:
    """Adds to the assets that are being made what their columns are and come from, and who uses them. Of a run over
    many partitions only to the newest, which is the one that is looked at: a year of days would keep it 365 times."""
    newest = context.partition_key_range.end if context.assets_def.partitions_def else None
    for key in keys:
        node = graph.nodes.get(node_of(key))
        if node:
            schema = _schema(graph, node, constraints or {})
            told = {SCHEMA: schema, "dagster/column_lineage": _column_lineage(graph, node)}
            context.add_asset_metadata({**told, **seen(graph, node.id, users)}, asset_key=key, partition_key=newest)


def seen(graph: "Lineage", node: str, users: bool = True) -> dict[str, dg.MetadataValue]:
    """The picture of a node's columns, and who uses it (unless nobody can tell, as in a graph without SQL)."""
    from ml_platform.catalog.picture import markdown, picture
    from ml_platform.catalog.uses import used_by

    drawn = dg.MetadataValue.md(markdown(picture(graph, node), f"columns of {node}"))
    return {"column_picture": drawn, **({"used_by": table_of(used_by(graph, node))} if users else {})}


def node_of(key: dg.AssetKey) -> str:
    """The id of an asset's node: a model's candidate and champion have the same columns."""
    path = key.path[:-1] if key.path[0] == "models" and key.path[-1] in MODEL_STAGES else key.path
    return "/".join(path)


def _schema(graph: "Lineage", node: "Node", constraints: Mapping[str, dg.TableColumnConstraints]) -> dg.TableSchema:
    """Type, description with unit and sources, and PII class of each column."""
    from ml_platform.catalog.graph import ColumnRef
    from ml_platform.catalog.pii import strongest

    columns = []
    for column in node.columns:
        ref = ColumnRef(node.id, column.name)
        unit = {"unit": column.unit} if column.unit else {}
        said = f"{column.description} [{column.unit}]" if unit else column.description
        columns.append(
            dg.TableColumn(
                name=column.name,
                type=column.dtype,
                description=f"{said}{_from(graph, ref)}",
                constraints=constraints.get(column.name),
                tags={"pii": strongest(graph, ref), **unit},
            )
        )
    return dg.TableSchema(columns=columns)


def _from(graph: "Lineage", ref: "ColumnRef") -> str:
    """` ← marts/line_changes.sales_cents, …`: the source columns in words; those of another asset of one name by it."""
    sources = [str(source) for source in dict.fromkeys(_asset_columns(graph, ref))]
    return f" ← {listed(sources, SOURCES_SHOWN)}" if sources else ""


def _column_lineage(graph: "Lineage", node: "Node") -> dg.TableColumnLineage:
    from ml_platform.catalog.graph import ColumnRef

    deps = {
        column.name: [
            dg.TableColumnDep(asset_key=dg.AssetKey(source.node.split("/")), column_name=source.column)
            for source in sorted(set(_asset_columns(graph, ColumnRef(node.id, column.name))))
        ]
        for column in node.columns
    }
    return dg.TableColumnLineage(deps_by_column=deps)


def _asset_columns(graph: "Lineage", ref: "ColumnRef") -> "Iterator[ColumnRef]":
    """The columns a value comes from, those of a label's query looked through: Dagster has no such asset."""
    from ml_platform.catalog.graph import VALUES

    for edge in graph.sources(ref):
        if edge.how in VALUES:
            through = graph.nodes[edge.source.node].kind == "labels"
            yield from _asset_columns(graph, edge.source) if through else [edge.source]


def pii_result(key: dg.AssetKey, spec: ModelSpec, graph: "Lineage") -> dg.AssetCheckResult:
    """Whether every input of the model is made only of what its spec allows; if not, the ways by which it comes in."""
    from ml_platform.catalog.pii import forbidden_inputs

    found = forbidden_inputs(graph, spec)
    rows = [{"input": each.input.column, "class": each.pii, "path": each.explain()} for each in found]
    allowed = ", ".join(spec.allowed_pii)
    said = f"{len(found)} inputs hold more than {allowed}: {found[0].explain()}" if found else f"no more than {allowed}"
    return dg.AssetCheckResult(
        check_name=PII_CHECK, asset_key=key, passed=not found, description=said, metadata={"inputs": table_of(rows)}
    )


def with_declarations(
    assets_: Sequence[dg.AssetsDefinition | dg.AssetSpec],
) -> Sequence[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets with a code reference to the file that declares them, where a factory made them."""
    code = _code()

    def referred(spec: dg.AssetSpec) -> dg.AssetSpec:
        place = code.get("/".join(spec.key.path[:2])) or code.get(f"models/{spec.key.path[1]}", "")
        if not place or spec.group_name == "marts":
            return spec
        path, _, line = place.partition(":")
        reference = dg.LocalFileCodeReference(
            file_path=str(REPOSITORY / path), line_number=int(line), label="declaration"
        )
        stated = {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}
        return spec.merge_attributes(metadata=stated)

    return dg.map_asset_specs(referred, assets_)


def _code() -> dict[str, str]:
    """Where features and models are declared: `path:line`, by node."""
    found = {f"features/{name}": place for name, place in _declarations(assets.feature_tables, FeatureTable)}
    for name, place in _declarations(assets.models, ModelSpec):
        nodes = (f"models/{name}", f"models/{name}/training_set", f"models/{name}/embeddings", f"predictions/{name}")
        found |= dict.fromkeys(nodes, place)
    return found


def _declarations(package: ModuleType, kind: type) -> Iterator[tuple[str, str]]:
    """Name and place of each object of that kind that a module of the package makes."""
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        path = Path(str(module.__file__))
        lines = path.read_text().splitlines()
        made = [number for number, line in enumerate(lines, start=1) if f"= {kind.__name__}(" in line]
        declared_here = [value for value in vars(module).values() if isinstance(value, kind)]
        for value, line in zip(declared_here, made):
            yield value.name, f"{path.relative_to(REPOSITORY)}:{line}"
