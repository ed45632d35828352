"""`mlp hindsight`: a replayed year, judged: what the platform did beside never, weekly and ideally retraining."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ml_platform.cli import output
from ml_platform.cli.models import unknown_model
from ml_platform.features.store import FeatureStore
from ml_platform.lake import write_atomically
from ml_platform.monitoring.hindsight import NothingToJudge, Step, judge_hindsight
from ml_platform.monitoring.hindsight_plots import hindsight_plot
from ml_platform.monitoring.hindsight_verdict import POLICIES, POLICY_WORDS, Hindsight, conclude
from ml_platform.registry.ledger import Ledger
from ml_platform.settings import Settings
from ml_platform.training.spec import ModelSpec
from ml_platform.warehouse import open_warehouse

FOLDER = "hindsight"


def show_hindsight(model: str | None, as_json: bool) -> None:
    """Judges one model, or every one that has something to judge. Raises UnknownModel, NothingToJudge."""
    from assets.models import MODELS

    if model is not None and model not in MODELS:
        raise unknown_model(model, list(MODELS))
    # Idle OpenMP threads spin by default; hundreds of small predictions would wait for them on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    chosen = [MODELS[model]] if model else list(MODELS.values())
    settings, judged, untold = Settings.from_env(), [], []
    with _progress(Console(stderr=True)) as progress:
        for spec in chosen:
            try:
                judged.append(_judge(spec, settings, progress))
            except NothingToJudge as nothing:
                untold.append(nothing)
    if not judged:
        raise untold[0]
    if as_json:
        output.show_json([to_json(found, settings) for found in judged])
        return
    for found in judged:
        _show(found, settings)
    for nothing in untold:
        output.console().print(f"{nothing.where}: {nothing.what}", markup=False)


def to_json(found: Hindsight, settings: Settings) -> dict[str, Any]:
    """All there is to say of a model's year."""
    judgement = conclude(found)
    return {
        "model": found.model,
        "policies": [asdict(found.policies[policy]) for policy in POLICIES],
        "closeness": {policy: found.closeness(policy) for policy in ("weekly", "shadowed", "best")},
        "differences": {policy: asdict(difference) for policy, difference in found.differences.items()},
        "judgement": {"as_wanted": judgement.as_wanted, **asdict(judgement)},
        "mondays": [monday.row() for monday in found.mondays],
        "untrained": {str(day): reason for day, reason in found.untrained.items()},
        "left_out": list(found.left_out),
        "plot": str(settings.home / FOLDER / f"{found.model}.png"),
    }


def _judge(spec: ModelSpec, settings: Settings, progress: Progress) -> Hindsight:
    """Judges a model and keeps its picture."""
    from assets.feature_tables import FEATURE_TABLES

    task = progress.add_task(spec.name, total=None)

    def tell(step: Step) -> None:
        said = f"{step.model} · {step.cutoff} {step.what.replace('_', ' ')} in {step.seconds:.1f} s"
        progress.update(task, description=escape(said), completed=step.done, total=step.total)

    found = judge_hindsight(
        spec,
        Ledger(settings.ledger_url),
        settings.lake,
        FeatureStore(settings.lake, FEATURE_TABLES),
        open_warehouse(settings),
        settings.home / FOLDER / spec.name,
        tell,
    )
    write_atomically(settings.home / FOLDER / f"{spec.name}.png", hindsight_plot(found), "hindsight.plot")
    progress.remove_task(task)
    return found


def _show(found: Hindsight, settings: Settings) -> None:
    rows = sum(monday.rows for monday in found.mondays)
    first, last = found.mondays[0].as_of, found.mondays[-1].as_of
    title = f"{found.model}: {len(found.mondays)} Mondays, {first} to {last}, {rows:,} rows"
    output.show_rows([_policy_row(found, number) for number in range(len(POLICIES))], title=title, as_json=False)
    output.show_rows(_monday_rows(found), title="Log loss by Monday", as_json=False)
    judgement = conclude(found)
    word = "[green]✓ as wanted[/]" if judgement.as_wanted else "[yellow]✗ not as wanted[/]"
    output.console().print(f"{word}: {escape(' '.join(judgement.sentences))}")
    for fact in judgement.facts:
        output.console().print(f"  · {fact}", markup=False)
    output.console().print(f"  picture: {settings.home / FOLDER / found.model}.png\n", markup=False)


def _policy_row(found: Hindsight, number: int) -> dict[str, Any]:
    policy = POLICIES[number]
    result, difference = found.policies[policy], found.differences.get(policy)
    return {
        "policy": POLICY_WORDS[policy],
        "log loss": f"{result.log_loss:.5f}",
        "auc": None if result.auc is None else f"{result.auc:.4f}",
        "trainings": result.trainings,
        "platform − this": None if difference is None else str(difference),
    }


def _monday_rows(found: Hindsight) -> Sequence[dict[str, Any]]:
    return [
        {
            "as of": monday.as_of,
            **{policy: f"{monday.log_loss[policy]:.4f}" for policy in POLICIES},
            "best's cutoff": monday.best_cutoff,
            "positives": monday.positives,
            "": ", ".join([*([f"v{monday.version}"] if new else []), *(["drifted"] if monday.drifted else [])]),
        }
        for number, monday in enumerate(found.mondays)
        for new in [number == 0 or monday.new_champion]
    ]


def _progress(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
