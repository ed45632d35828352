"""Every promise of the deployment in one place, as it stands today, and the asset that shows it.

What is promised is declared beside what promises it: raw tables, feature tables, models. Reading the promises opens no
warehouse and takes milliseconds, so a sensor may do it at every tick; recording what was read is the sensor's.
"""

from datetime import date

import dagster as dg

from assets.automation import when_deps_are_new
from assets.common import table_of
from assets.feature_tables import FEATURE_TABLES
from assets.models import MODELS
from ml_platform.clock import Clock
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.monitoring.promises import Promise, Reading, default_promises, measure_all
from ml_platform.settings import Settings
from ml_platform.training.spec import ModelSpec

KEY = dg.AssetKey(["monitoring", "slo"])
CHECK = "every_promise_holds"


def promises_of(spec: ModelSpec) -> tuple[Promise, ...]:
    """A champion may be as old as it is when retraining is due, and as much older as its challenger's trial takes."""
    trial_days = spec.label.maturity.days + 7 * spec.trial.max_weeks if spec.trial else 7
    return default_promises(spec.name, spec.owner, spec.retraining.max_age_days + trial_days)


PROMISES: tuple[Promise, ...] = (
    *(promise for table in RAW_TABLES.values() for promise in table.promises),
    *(promise for table in FEATURE_TABLES.values() for promise in table.promises),
    *(promise for spec in MODELS.values() for promise in promises_of(spec)),
)
WHEN_A_WEEK_IS_MADE = when_deps_are_new(
    "features, champions or predictions are new", ignore=dg.AssetSelection.key_prefixes("raw")
)
"""Shown weekly, however many days land: the sensor looks at every tick."""
SHOWN = ("promise", "state", "found", "promised", "budget_left", "budget_days", "since", "severity", "owner", "runbook")


def read_promises(settings: Settings, today: date) -> list[Reading]:
    """Every promise as it stands on the business day `today`. Records nothing, and never raises for what it finds."""
    from ml_platform.monitoring.places import places_in

    return measure_all(PROMISES, places_in(settings.lake, settings.ledger_url), today)


def asset_key(promise: Promise) -> dg.AssetKey:
    """The asset that the promise is made of."""
    return dg.AssetKey(promise.asset.split("/"))


@dg.asset(
    key=KEY,
    description="Every promise: how it stands today, how it stood on each day, and what is left of its error budget.",
    deps=list(dict.fromkeys(map(asset_key, PROMISES))),
    owners=["team:data-platform"],
    group_name="monitoring",
    kinds={"python"},
    tags={"stage": "monitoring"},
    automation_condition=WHEN_A_WEEK_IS_MADE,
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset=KEY,
            description="No promise is broken on the business day of the clock; the newest data decides",
        )
    ],
)
def slo() -> dg.MaterializeResult:
    """Reads what is promised and the book of how it stood; writes nothing."""
    from ml_platform.monitoring.slo import SloBook
    from ml_platform.monitoring.slo_plots import promises_markdown

    settings = Settings.from_env()
    clock = Clock(settings.home)
    today = clock.today()
    standings = SloBook(settings.alerts_url, clock.now).standings(read_promises(settings, today))
    rows = [standing.row() for standing in standings]
    broken = [row for row in rows if row["state"] == "broken"]
    states = [row["state"] for row in rows]
    return dg.MaterializeResult(
        metadata={
            "today": today.isoformat(),
            **{state: states.count(state) for state in ("held", "broken", "unknown")},
            "least_budget_left_days": min(row["budget_left"] for row in rows),
            "days_broken": sum(row["days_broken"] for row in rows),
            "promises": table_of([{name: row[name] for name in SHOWN} for row in rows]),
            "days": dg.MetadataValue.md(promises_markdown(standings, today)),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK,
                passed=not broken,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{len(broken)} of {len(rows)} promises are broken" if broken else "every promise holds",
                metadata={"broken": table_of([{name: row[name] for name in SHOWN} for row in broken])},
            )
        ],
    )


SLO_ASSETS = [slo]
