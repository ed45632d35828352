"""`mlp lineage`: where a column comes from and who uses it, each step with how fresh it is and how its checks stand."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from ml_platform.catalog.champions import read_champions
from ml_platform.catalog.graph import ColumnRef, Lineage, Node
from ml_platform.catalog.names import UnknownName, find, path_of
from ml_platform.catalog.table import Change, changes_since
from ml_platform.catalog.walk import Branch, dot, keys_of, tree
from ml_platform.cli import output
from ml_platform.clock import Clock
from ml_platform.settings import Settings
from ml_platform.wording import listed, printable

SHOWN_LOST = 5


@dataclass(frozen=True)
class State:
    """How an asset stands. `made`: its newest partition, or the day it was made; `failed`: names of its checks whose
    newest run failed; `promise`: `held`, `broken` or `unknown`, the worst of what is promised of it; None: nothing."""

    made: str | None = None
    passed: int = 0
    failed: tuple[str, ...] = ()
    promise: str | None = None

    def words(self) -> str:
        """For a line of the tree."""
        made = f"made {self.made}" if self.made else "[yellow]never made[/]"
        checks = [f"[red]✗ {escape(', '.join(self.failed))}[/]"] if self.failed else []
        checks += [f"[green]✓ {self.passed}[/]"] if self.passed else []
        promise = {"held": "[green]fresh[/]", "broken": "[red]stale[/]"}.get(self.promise or "")
        return " ".join([made, *checks, *([promise] if promise else [])])


def show_lineage(what: str | None, *, up: bool, down: bool, as_json: bool, as_dot: bool) -> None:
    """The trees of one thing, both ways unless one is asked for; of nothing, every node. Raises UnknownName."""
    from assets.columns import lineage_now
    from assets.models import MODELS

    settings = Settings.from_env()
    graph = lineage_now(read_champions(settings.ledger_url, MODELS))
    changes = changes_since(graph, settings.lake)
    if what is None:
        _show_nodes(graph, changes, as_json)
        return
    found = find_or_tell(graph, what, changes)
    up, down = (up, down) if up or down else (True, True)
    if as_dot:
        print(dot(graph, found, up=up, down=down))
        return
    trees = {name: tree(graph, found, up=name == "up") for name, asked in (("up", up), ("down", down)) if asked}
    states = read_states(settings, graph)
    if as_json:
        output.show_json(_as_json(graph, found, trees, states, changes))
        return
    _show_trees(graph, found, trees, states)
    _show_footer(graph, changes)


def find_or_tell(graph: Lineage, what: str, changes: list[Change]) -> ColumnRef | Node:
    """The thing of that name. Raises UnknownName: with the new name of a column that was renamed, or the nearest."""
    try:
        return find(graph, what)
    except UnknownName as unknown:
        for change in changes:
            if change.what != "added" and path_of(what) == path_of(f"{change.node}.{change.column}"):
                next_step = f"mlp lineage {change.node}.{change.now}" if change.now else unknown.next_step
                raise UnknownName(
                    f"{change} since the last run of catalog/lineage", where=what, next_step=next_step
                ) from None
        raise


def read_states(settings: Settings, graph: Lineage) -> dict[str, State]:
    """How every asset of the graph stands, by node."""
    from dagster import AssetKey

    from assets.slo import read_promises
    from ml_platform.cli.instance import open_instance
    from ml_platform.cli.run import load_definitions

    instance = open_instance(settings)
    assets = load_definitions().resolve_asset_graph()
    keys = {AssetKey(node.asset): node.id for node in graph.nodes.values() if node.asset}
    ids = {key: id_ for key, id_ in keys.items() if key in assets.materializable_asset_keys}
    states = dict.fromkeys(ids.values(), State())
    for record in instance.get_asset_records(list(ids)):
        event = record.asset_entry.last_materialization
        if event and event.asset_materialization:
            day = event.asset_materialization.partition or f"{datetime.fromtimestamp(event.timestamp, UTC):%Y-%m-%d}"
            states[ids[record.asset_entry.asset_key]] = State(made=day)
    asked = [check for check in assets.asset_check_keys if check.asset_key in ids]
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(asked)
    for check, run in sorted(newest.items(), key=lambda each: each[0].name):
        state = states[ids[check.asset_key]]
        if run.status.value == "FAILED":
            state = replace(state, failed=(*state.failed, check.name))
        elif run.status.value == "SUCCEEDED":
            state = replace(state, passed=state.passed + 1)
        states[ids[check.asset_key]] = state
    for reading in read_promises(settings, Clock(settings.home).today()):
        id_ = reading.promise.asset
        if id_ in states and (states[id_].promise is None or reading.state == "broken"):
            states[id_] = replace(states[id_], promise=reading.state)
    return states


def _show_nodes(graph: Lineage, changes: list[Change], as_json: bool) -> None:
    rows = [
        {
            "node": node.id,
            "kind": node.kind,
            "columns": len(node.columns),
            "champion": node.version,
            "owner": node.owner,
        }
        for node in graph.nodes.values()
    ]
    output.show_rows(rows, title="Lineage", as_json=as_json)
    if not as_json:
        _show_footer(graph, changes)


def _show_trees(
    graph: Lineage, found: ColumnRef | Node, trees: Mapping[str, Branch], states: Mapping[str, State]
) -> None:
    console = output.console()
    node = found if isinstance(found, Node) else graph.nodes[found.node]
    for said in _about(graph, found, node):
        console.print(said, soft_wrap=True)
    titles = {"up": "is made of", "down": "is used by"}
    for name, branch in trees.items():
        grown = Tree(f"[bold]{_words(branch.name)}[/] {titles[name]}" + ("" if branch.beyond else " nothing"))
        for each in branch.beyond:
            _grow(grown, graph, each, states)
        console.print(grown)
    keys = keys_of(graph, node.id)
    if keys and "up" in trees:
        named = ", ".join(_words(str(key)) for key in keys)
        console.print(f"[dim]which rows it has is decided by {named}[/]", soft_wrap=True)
    console.print()


def _grow(onto: Tree, graph: Lineage, branch: Branch, states: Mapping[str, State]) -> None:
    id_, name = branch.step
    node = graph.nodes[id_]
    column = node.column(name) if name else None
    facts = [fact for fact in (column.dtype, column.unit) if fact] if column else [node.kind]
    if column and column.importance is not None:
        facts.append(f"importance {column.importance:.1%}")
    if node.version is not None:
        facts.append(f"champion v{node.version}")
    suspected = " [red]suspected: its SQL cannot be followed[/]" if branch.how == "unknown" else ""
    state = f"  {states[id_].words()}" if id_ in states else ""
    elsewhere = " [dim](opened elsewhere)[/]" if branch.seen else ""
    line = f"{_words(branch.name)} [dim]{_words(' '.join(facts))}[/]{state}{suspected}{elsewhere}"
    grown = onto.add(line)
    for each in branch.beyond:
        _grow(grown, graph, each, states)


def _about(graph: Lineage, found: ColumnRef | Node, node: Node) -> list[str]:
    """What is said of the thing itself."""
    if isinstance(found, Node):
        facts = [node.kind, f"{len(node.columns)} columns", node.owner, node.code]
        return [
            f"[bold]{_words(node.id)}[/]: {_words(node.description)}",
            f"[dim]{_words(' · '.join(filter(None, facts)))}[/]",
        ]
    column = node.column(found.column)
    if column is None:
        return [f"[bold]{_words(str(found))}[/]: the rows of {_words(node.id)}"]
    classes = ", ".join(graph.pii_paths(found)) or "none"
    facts = [column.dtype, column.unit, f"PII: {classes}", node.owner, node.code]
    return [
        f"[bold]{_words(str(found))}[/]: {_words(column.description)}",
        f"[dim]{_words(' · '.join(filter(None, facts)))}[/]",
    ]


def _show_footer(graph: Lineage, changes: list[Change]) -> None:
    console, share = output.console(), graph.resolved()
    for change in changes:
        console.print(f"since the last run of catalog/lineage, {_words(str(change))}", soft_wrap=True)
    said = f"{share.followed} of {share.columns} columns made by SQL are followed to their sources ({share.share:.1%})"
    console.print(f"[dim]{said}[/]")
    if lost := [_words(str(ref)) for ref in graph.suspected()]:
        console.print(f"[red]not followed:[/] {listed(lost, SHOWN_LOST)}", soft_wrap=True)


def _as_json(
    graph: Lineage,
    found: ColumnRef | Node,
    trees: Mapping[str, Branch],
    states: Mapping[str, State],
    changes: list[Change],
) -> dict[str, Any]:
    node = found if isinstance(found, Node) else graph.nodes[found.node]
    share = graph.resolved()
    steps = {step for branch in trees.values() for step in _steps(branch)}
    return {
        "what": node.id if isinstance(found, Node) else str(found),
        **{name: branch.to_json() for name, branch in trees.items()},
        "keys": [str(key) for key in keys_of(graph, node.id)],
        "states": {id_: vars(states[id_]) for id_ in sorted(steps) if id_ in states},
        "changes": [str(change) for change in changes],
        "followed": {"columns": share.columns, "followed": share.followed, "share": share.share},
    }


def _steps(branch: Branch) -> set[str]:
    return {branch.step[0]}.union(*(_steps(each) for each in branch.beyond))


def _words(text: str) -> str:
    return escape(printable(text))
