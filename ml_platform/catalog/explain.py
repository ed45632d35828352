"""One published prediction, fully accounted for: what the model read, what it made of it, and on whose word it served.

The answer is made again from the published features by the very bundle that the row names, and laid beside the row.
Invariants: nothing is trained, written or guessed; what is told adds up (see `tasks.account`); what has changed since
(features republished, another answer) is said, never passed over. The dates of the source rows come from the landed
files, which never change and which anyone may read while the warehouse is at work.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ml_platform.calendar import parse_monday
from ml_platform.catalog.source_rows import SourceRows, source_rows
from ml_platform.errors import PlatformError
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable
from ml_platform.landing.files import LandingFolder
from ml_platform.predictions import catalogue, data_digest, joined
from ml_platform.registry.bundles import Bundle, open_bundle
from ml_platform.registry.ledger import Ledger
from ml_platform.registry.views import history_rows
from ml_platform.tasks import task_of
from ml_platform.tasks.account import Account
from ml_platform.training.job import column_of
from ml_platform.training.spec import ModelSpec
from ml_platform.wording import NEAREST, nearest

TOLERANCE = 1e-6
"""How far an answer made again may lie from the published one: batches of another size round otherwise."""


class UnknownPrediction(PlatformError):
    """Nothing was predicted for this entity or this Monday."""


@dataclass(frozen=True)
class Feature:
    """What the model read. `as_of`: None when its table had no row that was still good. `contribution`: to the margin;
    None where the trainer tells no shares of features."""

    reference: str
    value: Any
    as_of: date | None
    contribution: float | None


@dataclass(frozen=True)
class Explanation:
    """`published`: the scores of the prediction's rows, in order; `accounts`: each of them made again and taken apart.

    `features_unchanged`: the partitions read are those that the row's digest names. `entries`: every ledger entry that
    made this version the champion. `training`: what the bundle was trained on and by what.
    """

    model: str
    entity: Mapping[str, Any]
    as_of: date
    version: int
    bundle_digest: str
    training: Mapping[str, str]
    features: tuple[Feature, ...]
    sources: tuple[SourceRows, ...]
    published: tuple[float, ...]
    accounts: tuple[Account, ...]
    features_unchanged: bool
    entries: tuple[Mapping[str, Any], ...]

    @property
    def reproduced(self) -> bool:
        """Whether the answer made again is the published one."""
        scores = [account.score for account in self.accounts]
        return len(scores) == len(self.published) and bool(np.allclose(scores, self.published, 0.0, TOLERANCE))


@dataclass(frozen=True)
class Places:
    """Where predictions, features, the ledger and the landed files of a home are. `raw`: the raw tables that each
    feature table is made of, as the lineage has them."""

    lake: Path
    store: FeatureStore
    ledger: Ledger
    landing: LandingFolder
    raw: Mapping[str, Sequence[str]]


def explain(spec: ModelSpec, entity: str, week: str, places: Places) -> Explanation:
    """The champion's prediction for one entity, as of one Monday.

    `entity`: the values of the spec's entity columns, joined by `/`. Raises NotADay, UnknownPrediction with the nearest
    weeks or entities, and what opening the bundle or reading the features raises.
    """
    rows = _published(spec, entity, week, PartitionedTable(places.lake / "predictions", spec.name))
    as_of, number = parse_monday(week), int(rows["model_version"][0])
    version = places.ledger.version(spec.name, number)
    bundle = open_bundle(Path(version.bundle_uri))
    key = rows.select(*spec.entity, "as_of").head(1)
    inputs, items = joined(spec, bundle, places.store, key), catalogue(spec, places.store, [as_of])
    accounts = tuple(task_of(spec).accounts(bundle, inputs, items))
    history = [row for row in history_rows(places.ledger, spec.name) if row["to_version"] == number]
    named = key.drop("as_of").to_dicts()[0]
    return Explanation(
        model=spec.name,
        entity=named,
        as_of=as_of,
        version=number,
        bundle_digest=bundle.digest,
        training={
            "cutoff": version.cutoff.isoformat(),
            "training_set_digest": version.training_set_digest,
            "library": bundle.report["trainer"]["library"],
        },
        features=tuple(_features(bundle, inputs, accounts)),
        sources=tuple(_sources(spec, named, inputs, places)),
        published=tuple(rows["score"].to_list()),
        accounts=accounts,
        features_unchanged=data_digest(spec, bundle, places.store, as_of) == rows["data_digest"][0],
        entries=tuple(history),
    )


def _published(spec: ModelSpec, entity: str, week: str, table: PartitionedTable) -> pl.DataFrame:
    """The champion's rows of the entity, in the order of their places."""
    as_of, known = parse_monday(week), table.partitions()
    if week not in known:
        near = sorted(known, key=lambda each: abs(date.fromisoformat(each) - as_of))[:NEAREST]
        hint = f"the nearest are {', '.join(near)}" if near else f"mlp run 'key:predictions/{spec.name}'"
        raise UnknownPrediction(f"{spec.name} predicted nothing as of {week}", where="WEEK", next_step=hint)
    rows = table.read(week).filter(pl.col("role") == "champion")
    parts = entity.split("/", len(spec.entity) - 1)
    shape = "/".join(name.upper() for name in spec.entity)
    if len(parts) != len(spec.entity):
        example = "/".join(str(value) for value in rows.select(spec.entity).row(0)) if rows.height else shape
        raise UnknownPrediction(
            f"{entity!r} is not of the form {shape}", where="ENTITY", next_step=f"write it as in {shlex.quote(example)}"
        )
    for name, text in zip(spec.entity, parts, strict=True):
        found = rows.filter(pl.col(name).cast(pl.String) == text)
        if found.is_empty():
            near = _nearest(rows[name].unique().sort(), text)
            raise UnknownPrediction(
                f"{spec.name} predicted nothing for {name} {text!r} as of {week}",
                where=f"ENTITY {shape}",
                next_step=f"the nearest are {', '.join(near)}",
            )
        rows = found
    return rows.sort("rank") if "rank" in rows.columns else rows


def _nearest(known: pl.Series, text: str) -> list[str]:
    """The nearest values: of numbers by distance, of words by their letters, or else the first ones."""
    if known.dtype.is_integer() and text.lstrip("-").isdecimal():
        return [str(value) for value in sorted(known.to_list(), key=lambda value: abs(value - int(text)))[:NEAREST]]
    words = [str(value) for value in known.to_list()]
    folded = {word.casefold(): word for word in words}
    return nearest(text.casefold(), folded) or words[:NEAREST]


def _features(bundle: Bundle, inputs: pl.DataFrame, accounts: Sequence[Account]) -> list[Feature]:
    """Each feature as it was read, those that weigh most first."""
    (row,) = inputs.to_dicts()
    parts = accounts[0].parts if accounts else {}
    found = [
        Feature(each, row[column_of(each)], row[f"{each.split(':')[0]}__as_of"], parts.get(each))
        for each in bundle.features
    ]
    return sorted(found, key=lambda feature: -abs(feature.contribution or 0.0))


def _sources(spec: ModelSpec, entity: Mapping[str, Any], inputs: pl.DataFrame, places: Places) -> list[SourceRows]:
    """The source rows of each feature table that was read, by the table's own entity and its own Monday."""
    (row,) = inputs.to_dicts()
    found = []
    for table in dict.fromkeys(name.removesuffix("__as_of") for name in row if name.endswith("__as_of")):
        as_of = row[f"{table}__as_of"]
        named = {name: entity[name] for name in places.store.contract(table).entity if name in entity}
        if as_of is not None:
            found += [source_rows(places.landing, table, raw, named, as_of) for raw in places.raw.get(table, ())]
    return found
