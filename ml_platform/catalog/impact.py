"""What a change touches: the files that differ from a git ref, what they declare or make, and everything below that.

A file touches the nodes it declares (`Node.code`) and the dbt models that use a macro or a property of it: that is
certain. A file of the platform's own code may touch all that such code makes (MAKERS): that is only suspected, and told
apart. A Python or YAML file whose words alone differ (layout, comments, descriptions, tests) touches nothing. Columns
are not compared: whatever is declared in a changed file counts as changed, so nothing is missed.
"""

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_platform.catalog.dbt import Project, node_id
from ml_platform.catalog.graph import Kind, Lineage, Node
from ml_platform.catalog.revisions import Changed, Revision

SQL_STAGES: tuple[Kind, ...] = ("staging", "marts", "feature_models", "sql")
MAKERS: Sequence[tuple[str, tuple[Kind, ...]]] = (
    ("ml_platform/landing/", ("raw",)),
    ("assets/raw.py", ("raw",)),
    ("dbt_project/", SQL_STAGES),
    ("ml_platform/features/", ("features", "training_set")),
    ("assets/features.py", ("features",)),
    ("assets/training.py", ("training_set", "model")),
    ("ml_platform/training/sets.py", ("training_set",)),
    ("ml_platform/training/", ("model",)),
    ("ml_platform/ranking/", ("model",)),
    ("ml_platform/tasks/", ("predictions",)),
    ("ml_platform/predictions.py", ("predictions",)),
    ("assets/predictions.py", ("predictions",)),
    ("ml_platform/embeddings.py", ("embeddings",)),
    ("assets/embeddings.py", ("embeddings",)),
    ("requirements.lock", ("model",)),
)
"""Code that makes nodes of these kinds, whatever is declared; the first that fits counts."""
WORDS = frozenset({"description", "tests", "data_tests", "meta", "docs"})
"""Keys of dbt's YAML that say something of a column or a model and make nothing."""


@dataclass(frozen=True)
class Impact:
    """`touched`: nodes that a changed file declares or makes, with those files. `suspected`: nodes that changed code of
    the platform makes. `quiet`: files whose words alone differ; `others`: files that touch nothing of the lineage."""

    base: Revision
    files: tuple[Changed, ...]
    touched: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    suspected: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    quiet: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reached:
    """A node at or below what changed. `certain`: below a touched one; otherwise only suspected. `columns`: how many of
    its columns hold something of what changed; 0 where it only decides about rows. `because`: the changes, the nearest
    first."""

    node: Node
    certain: bool
    columns: int
    because: tuple[str, ...]


def find_impact(lineage: Lineage, base: Revision, files: Sequence[Changed], dbt: Mapping[str, Iterable[str]]) -> Impact:
    """Which nodes the files touch. `dbt`: the nodes of each file of dbt's project, as `dbt_files` gives them."""
    declared: dict[str, set[str]] = {path: set(nodes) & lineage.nodes.keys() for path, nodes in dbt.items()}
    for node in lineage.nodes.values():
        declared.setdefault(node.code.partition(":")[0], set()).add(node.id)
    touched: dict[str, list[str]] = {}
    suspected: dict[str, list[str]] = {}
    quiet, others = [], []
    for file in files:
        made = {id_ for id_, node in lineage.nodes.items() if node.kind in _makes(file.path)}
        if not made and file.path not in declared:
            others.append(file.path)
        elif only_words_differ(file):
            quiet.append(file.path)
        else:
            for id_ in declared.get(file.path) or made:
                (touched if file.path in declared else suspected).setdefault(id_, []).append(file.path)
    return Impact(base, tuple(files), _frozen(touched), _frozen(suspected), tuple(quiet), tuple(others))


def reached(lineage: Lineage, impact: Impact, *kinds: Kind) -> list[Reached]:
    """Every node of these kinds at or below what changed, in the order data flows."""
    certain = set(lineage.below(impact.touched))
    changed = [ref for id_ in (*impact.touched, *impact.suspected) for ref in lineage.refs(id_)]
    held = {edge.target for edge in lineage.downstream(*changed)} | set(changed)
    found = []
    for id_ in lineage.below([*impact.touched, *impact.suspected]):
        node = lineage.nodes[id_]
        if node.kind in kinds:
            above = lineage.above([id_])
            because = [
                each for each in reversed(above) if each in (impact.touched if id_ in certain else impact.suspected)
            ]
            columns = sum(ref in held for ref in lineage.refs(id_)[:-1])
            found.append(Reached(node, id_ in certain, columns, tuple(because)))
    return found


def dbt_files(project: Project) -> dict[str, list[str]]:
    """The nodes that each file of dbt's project makes: its models, those it describes, those that use its macros."""
    macros: Mapping[str, Any] = project.manifest["macros"]
    own = project.manifest["metadata"]["project_name"]
    found: dict[str, list[str]] = {}
    for resource in project.resources.values():
        used = _used_macros(resource, macros)
        files = {macros[key]["original_file_path"] for key in used if macros[key]["package_name"] == own}
        files |= {(resource.get("patch_path") or "").rpartition("://")[2]} - {""}
        for file in files | {resource["original_file_path"]}:
            found.setdefault(f"{project.folder}/{file}", []).append(node_id(resource))
    return found


def only_words_differ(file: Changed) -> bool:
    """Whether both texts mean the same: Python by its syntax tree, YAML without what only describes."""
    import yaml

    if file.what != "changed":
        return False
    try:
        before, after = file.texts()
        if file.path.endswith(".py"):
            return ast.dump(_wordless(ast.parse(before))) == ast.dump(_wordless(ast.parse(after)))
        if file.path.endswith((".yml", ".yaml")):
            return _stated(yaml.safe_load(before)) == _stated(yaml.safe_load(after))
    except (OSError, ValueError, SyntaxError, RecursionError, yaml.YAMLError):  # what cannot be read is changed
        return False
    return False


def _makes(path: str) -> tuple[Kind, ...]:
    return next((kinds for prefix, kinds in MAKERS if path.startswith(prefix)), ())


def _used_macros(resource: Mapping[str, Any], macros: Mapping[str, Any]) -> set[str]:
    """The macros of a model, and those that they use."""
    waiting = list(resource.get("depends_on", {}).get("macros", []))
    seen: set[str] = set()
    while waiting:
        key = waiting.pop()
        if key in macros and key not in seen:
            seen.add(key)
            waiting += macros[key].get("depends_on", {}).get("macros", [])
    return seen


def _wordless(tree: ast.Module) -> ast.Module:
    """The tree without strings that stand alone: docstrings, and what is said of a constant."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_said(each)]  # type: ignore[attr-defined]
    return tree


def _is_said(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _stated(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stated(each) for key, each in value.items() if key not in WORDS}
    return [_stated(each) for each in value] if isinstance(value, list) else value


def _frozen(found: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {id_: tuple(paths) for id_, paths in sorted(found.items())}
