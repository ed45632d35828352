"""`mlp models`, `history`, `promote`, `rollback`: reads the ledger; changes go through a run of the champion asset."""

import difflib
import getpass
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from rich.console import Console

from ml_platform.calendar import parse_day
from ml_platform.cli import output
from ml_platform.errors import PlatformError
from ml_platform.registry.ledger import Ledger
from ml_platform.registry.views import history_rows, model_rows
from ml_platform.settings import Settings


class UnknownModel(PlatformError):
    """No model has this name."""


class WaiverIncomplete(PlatformError):
    """A waiver names gate and last day; one of them is missing."""


def show_models(as_json: bool) -> None:
    """Every model that was ever trained."""
    rows = model_rows(_ledger(), date.today())
    if as_json:
        output.show_json(rows)
    elif not rows:
        output.console().print("No model was trained yet. Next: mlp demo")
    else:
        show_model_tables(rows, output.console())


def show_model_tables(rows: Sequence[Mapping[str, Any]], to: Console) -> None:
    """One table of champions, then one a model: the champion's metrics beside its baselines'."""
    shown = ("model", "champion", "since", "who", "cutoff", "newest_version", "newest_failed_gates")
    output.show_rows([_short(row, shown) for row in rows], title="Champions", as_json=False, to=to)
    for row in rows:
        if row["metrics"]:
            title = f"{row['model']}: version {row['champion']} on its frozen evaluation set"
            output.show_rows(metric_rows(row["metrics"]), title=title, as_json=False, to=to)


def metric_rows(metrics: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """A row a scorer: this version first, as it was judged, then the champion before it and the baselines."""
    names = {"candidate": "this version", "champion": "the champion before it"}
    return [
        {"scored by": names.get(scorer, scorer), **{name: _figure(value) for name, value in figures.items()}}
        for scorer, figures in metrics.items()
    ]


def show_history(model: str, as_json: bool) -> None:
    """Every ledger entry of a model, oldest first. Raises UnknownModel."""
    ledger = _ledger()
    if not ledger.versions(model):
        raise unknown_model(model, ledger.models())
    rows = history_rows(ledger, model)
    if as_json:
        output.show_json(rows)
        return
    output.show_rows([_entry_row(row) for row in rows], title=f"Champions of {model}", as_json=False)


def promote_version(
    model: str, version: int, *, reason: str, waive: Sequence[str], until: str | None, who: str, as_json: bool
) -> None:
    """Asks the champion asset to promote a version, and shows the entry it made."""
    if waive and not until:
        raise WaiverIncomplete("a waiver ends on a day", where="--until", next_step="add --until YYYY-MM-DD")
    if until and not waive:
        raise WaiverIncomplete(
            "--until is a waiver's last day", where="--waive", next_step="name the gate: --waive GATE"
        )
    waivers = [{"gate": gate, "until": parse_day(until).isoformat()} for gate in waive] if until else []
    _change(model, as_json, action="promote", version=version, reason=reason, who=who, waivers=waivers)


def roll_back(model: str, version: int | None, *, reason: str, who: str, as_json: bool) -> None:
    """Asks the champion asset to put an earlier champion back, and shows the entry it made."""
    _change(model, as_json, action="rollback", version=version, reason=reason, who=who, waivers=[])


def _change(model: str, as_json: bool, *, who: str, **asked: Any) -> None:
    """Runs the champion asset with what is asked: the one path to a champion, recorded as a run like any other."""
    from dagster import AssetKey

    from ml_platform.cli.execute import execute
    from ml_platform.cli.instance import open_instance
    from ml_platform.cli.plan import PlannedRun
    from ml_platform.cli.run import load_definitions

    defs, key = load_definitions(), AssetKey(["models", model, "champion"])
    known = defs.resolve_asset_graph().materializable_asset_keys
    if key not in known:
        raise unknown_model(model, [k.path[1] for k in known if k.path[0] == "models" and k.path[-1] == "champion"])
    if not asked["reason"].strip():
        raise PlatformError("a change of champion has a reason", where="--reason", next_step="say why in a few words")
    config = {defs.resolve_assets_def(key).op.name: {"config": {**asked, "who": who or getpass.getuser()}}}
    ledger = _ledger()
    before = len(ledger.history(model))
    instance = open_instance(Settings.from_env())
    planned = PlannedRun(f"{asked['action']} {model}", (key.to_user_string(),), None, None, "asked for")
    with output.own_terminal():
        execute(defs, instance, planned, Console(quiet=True), config)
    entries = history_rows(ledger, model)
    if len(entries) == before:
        output.show_rows(entries[-1:], title="Nothing changed: it is the champion already", as_json=as_json)
    elif as_json:
        output.show_json(entries[-1:])
    else:
        output.show_rows([_entry_row(entries[-1])], title=f"Ledger entry of {model}", as_json=False)


def _ledger() -> Ledger:
    return Ledger(Settings.from_env().ledger_url)


def unknown_model(model: str, known: Sequence[str]) -> UnknownModel:
    """The error that names the nearest model, or all there are."""
    near = difflib.get_close_matches(model, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known)) or 'none trained yet'}"
    return UnknownModel(f"there is no model {model!r}", where="MODEL", next_step=hint)


def _short(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The named values, an instant cut to the second."""
    return {name: row[name][:19] if name == "since" and row[name] else row[name] for name in names}


def _entry_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger entry as one line."""
    waivers = [f"{waiver['gate']} until {waiver['until']}" for waiver in row["waivers"]]
    return {
        **row,
        "recorded_at": row["recorded_at"][:19],
        "evidence_digest": row["evidence_digest"][:12],
        "waivers": waivers,
    }


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
