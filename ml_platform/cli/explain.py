"""`mlp explain`: one prediction, fully accounted for."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from ml_platform.calendar import parse_monday
from ml_platform.catalog.explain import Explanation, Feature, Places, explain
from ml_platform.catalog.source_rows import SourceRows
from ml_platform.cli import output
from ml_platform.cli.models import unknown_model
from ml_platform.features.store import FeatureStore
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.registry.ledger import Ledger
from ml_platform.settings import Settings

LONGEST_VALUE = 40


def show_explanation(model: str, entity: str, week: str, as_json: bool) -> None:
    """The account of a prediction. Raises UnknownModel, and as `catalog.explain.explain`."""
    from assets.models import MODELS

    if model not in MODELS:
        raise unknown_model(model, list(MODELS))
    parse_monday(week)  # before anything heavy is opened
    found = explain(MODELS[model], entity, week, _places())
    if as_json:
        stated = asdict(found) | {"scores": [account.score for account in found.accounts]}
        output.show_json(stated | {"reproduced": found.reproduced})
    else:
        _show(found)


def _places() -> Places:
    from assets.columns import lineage_now
    from assets.feature_tables import FEATURE_TABLES

    settings, graph = Settings.from_env(), lineage_now(with_sql=False)
    raw = {
        table: [raw for raw in RAW_TABLES if f"raw/{raw}" in graph.above([f"features/{table}"])]
        for table in FEATURE_TABLES
    }
    store = FeatureStore(settings.lake, FEATURE_TABLES)
    return Places(settings.lake, store, Ledger(settings.ledger_url), LandingFolder(settings.landing), raw)


def _show(found: Explanation) -> None:
    to = output.console()
    named = ", ".join(f"{name} {value}" for name, value in found.entity.items())
    to.print(f"[bold]{found.model}[/] as of {found.as_of}: {escape(named)}\n")
    rows = [_feature(each) for each in found.features]
    output.show_rows(rows, title="What it read, what weighs most first", as_json=False)
    if found.accounts and found.accounts[0].product is None:
        output.show_rows(list(_way(found)), title="From the margin to the probability", as_json=False)
    else:
        output.show_rows(list(_list(found)), title=_list_title(found), as_json=False)
    output.show_rows([_source(each) for each in found.sources], title="Landed rows behind it", as_json=False)
    output.show_rows([_entry(each) for each in found.entries], title="On whose word it served", as_json=False)
    to.print(
        f"version {found.version}, bundle {found.bundle_digest[:12]}, trained by {found.training['library']} on what"
        f" had landed before {found.training['cutoff']} (training set {found.training['training_set_digest'][:12]})"
    )
    for line in _doubts(found):
        to.print(f"[yellow]{line}[/]")


def _feature(feature: Feature) -> dict[str, Any]:
    value = feature.value
    said = str([*value[:LONGEST_VALUE]]) if isinstance(value, list) else value
    if isinstance(said, str) and len(said) > LONGEST_VALUE:
        said = f"{said[: LONGEST_VALUE - 1]}…"
    row = {"feature": feature.reference, "value": said, "as_of": feature.as_of}
    return row if feature.contribution is None else {**row, "adds to the margin": _signed(feature.contribution)}


def _way(found: Explanation) -> Iterable[Mapping[str, Any]]:
    (account,) = found.accounts
    read = {feature.reference for feature in found.features}
    rest = {name: value for name, value in account.parts.items() if name not in read}
    yield {"step": "features", "value": _signed(sum(account.parts.values()) - sum(rest.values())), "how": "their sum"}
    yield from ({"step": name, "value": _signed(value), "how": "of every row"} for name, value in rest.items())
    yield {"step": "margin", "value": _signed(account.margin), "how": "the sum of both"}
    yield from ({"step": step.name, "value": f"{step.value:.6f}", "how": step.said} for step in account.steps)
    told = "the same" if found.reproduced else "another: see below"
    yield {"step": "published", "value": f"{found.published[0]:.6f}", "how": told}


def _list_title(found: Explanation) -> str:
    steps = found.accounts[0].steps if found.accounts else ()
    return f"The list. A score is {'; '.join(step.said for step in steps)}; the margin adds up from"


def _list(found: Explanation) -> Iterable[Mapping[str, Any]]:
    for place, (account, published) in enumerate(zip(found.accounts, found.published), start=1):
        parts = {name: _signed(value) for name, value in account.parts.items()}
        yield {
            "rank": place,
            "product": str(account.product),
            **parts,
            "margin": _signed(account.margin),
            "score": f"{account.score:.6f}",
            "published": f"{published:.6f}",
        }


def _source(source: SourceRows) -> dict[str, Any]:
    return {
        "features": source.features,
        "raw table": source.raw,
        "landed before": source.as_of,
        "rows": source.rows,
        "of": source.narrowed_by or "the whole table",
        "newest landed": source.landed_on,
        "newest event (UTC)": source.event and f"{source.event:%Y-%m-%d %H:%M}",
    }


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    waivers = [waiver["gate"] for waiver in entry["waivers"]]
    shown = {name: entry[name] for name in ("seq", "action", "who", "reason")}
    evidence = entry["evidence_digest"][:12]
    return {"recorded_at": entry["recorded_at"][:19], **shown, "evidence": evidence, "waived": waivers}


def _doubts(found: Explanation) -> Iterable[str]:
    if not found.features_unchanged:
        yield "The features were published again since: what stands here is what they say now."
    if not found.reproduced:
        cause = "; the features are the same, so code or machine is another" if found.features_unchanged else ""
        yield f"The published score is {found.published[0]:.6f}, made again it is {found.accounts[0].score:.6f}{cause}."


def _signed(value: float) -> str:
    return f"{value:+.4f}"
