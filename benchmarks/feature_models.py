"""Feature models: from additive aggregates beside plain queries over raw lines, and one more week beside all of them.

The models' own SQL, as dbt compiles it, is run without dbt: only the warehouse's query time counts. Data: the
year 2017, landed with its late and corrected lines, so both sides have to say what was known on each Monday.
"""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from benchmarks.rows import REPOSITORY, Row, seconds_of, take_turns, this_python
from ml_platform.calendar import DAY, FIRST_AS_OF, LAST_AS_OF, OPENING_DAY, WEEK
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.loading import create_raw, load_all
from ml_platform.landing.replay import replay
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.settings import Settings
from ml_platform.warehouse.base import Session, quote
from ml_platform.warehouse.duckdb import DuckDBWarehouse

REPEATS = 3
EARLY = FIRST_AS_OF + 9 * WEEK
GOAL_PLAIN, GOAL_WEEK, GOAL_LATE = 1.5, 1 / 20, 1.1
STATED = {"landed_from": "1001-01-01", "landed_to": "1002-01-01", "as_of_from": "1003-01-01", "as_of_to": "1004-01-01"}
"""Days that stand for the ranges in the compiled SQL, so that one compilation serves them all."""

LINES = """
with versions as (
    select
        *,
        lead(landed_on) over (partition by household_id, basket_id, product_id order by landed_on) as superseded_on
    from raw.transactions
),
lines as (
    select versions.*, products.product_category, as_ofs.as_of, as_ofs.as_of - event_date as age
    from versions
    join raw.products as products using (product_id)
    join (select distinct as_of from feature_models.household_features) as as_ofs
        on event_date < as_of and event_date >= as_of - 84
        and versions.landed_on < as_of and (superseded_on is null or superseded_on >= as_of)
    where not is_withdrawn and products.department not in ('FUEL', 'COUPON', 'MISCELLANEOUS')
)
"""
WINDOWS = """
    count(distinct event_date) filter (age <= 7)::int as days_7d,
    count(distinct event_date) filter (age <= 28)::int as days_28d,
    count(distinct event_date)::int as days_84d,
    count(*) filter (age <= 7)::int as lines_7d,
    count(*) filter (age <= 28)::int as lines_28d,
    count(*)::int as lines_84d,
    coalesce(sum(sales_cents) filter (age <= 7), 0)::bigint as spend_cents_7d,
    coalesce(sum(sales_cents) filter (age <= 28), 0)::bigint as spend_cents_28d,
    sum(sales_cents)::bigint as spend_cents_84d,
    min(age)::int as recency_days,
    sum(retail_disc_cents + coupon_match_disc_cents)::double
        / nullif(sum(sales_cents + retail_disc_cents + coupon_match_disc_cents), 0)::double as discount_share_84d,
"""
TRIPS = """
    count(distinct basket_id) filter (age <= 7)::int as trips_7d,
    count(distinct basket_id) filter (age <= 28)::int as trips_28d,
    count(distinct basket_id)::int as trips_84d
"""
PLAIN = {
    "household_features": f"{LINES} select household_id, as_of, {WINDOWS} {TRIPS} from lines group by all",
    "household_category_features": f"""{LINES}
        select household_id, product_category, as_of, {WINDOWS} max(coupon_disc_cents > 0)::int as coupon_used_84d
        from lines where product_category is not null group by all""",
}


@dataclass(frozen=True)
class Model:
    """A dbt model: its relation, its SQL with STATED days in it, and how it is kept.

    `kind`: view, table (made anew each time), or incremental; of the last, `range_column` says what a run replaces.
    """

    relation: str
    sql: str
    kind: str
    range_column: str | None

    def between(self, landed: tuple[date, date], as_of: tuple[date, date]) -> str:
        """Its SQL for these landing days and Mondays."""
        sql = self.sql
        for stands, day in zip(STATED.values(), (*landed, *as_of), strict=True):
            sql = sql.replace(stands, day.isoformat())
        return sql


def measure() -> list[Row]:
    """Builds a warehouse in two steps, to the tenth feature Monday and to the last, and times queries on the way."""
    settings = Settings.from_env()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        folder = LandingFolder(home / "landing")
        replay(folder, LAST_AS_OF - DAY, households=settings.households)
        warehouse = DuckDBWarehouse(home / "warehouse.duckdb")
        _load(warehouse, folder, EARLY - DAY)
        models = compiled(warehouse.path)
        with warehouse.session("early") as session:
            _backfill(session, models, EARLY)
            early = _best_week(session, models, EARLY)
        _load(warehouse, folder, LAST_AS_OF - DAY)
        with warehouse.session("late") as session:
            full = seconds_of(lambda: _backfill(session, models, LAST_AS_OF))
            late = _best_week(session, models, LAST_AS_OF)
            rows = [_beside_plain(session, model) for model in models if model.relation.split(".")[1] in PLAIN]
    said = "all staging, mart and feature models" + (
        f", {settings.households} households" if settings.households else ""
    )
    return [
        *rows,
        Row("One more week of SQL", late, "s", "full backfill", full, GOAL_WEEK, f"{said}; query time without dbt"),
        Row(
            "… with 49 Mondays of features", late, "s", "with 10", early, GOAL_LATE, "the same models; a tenth is noise"
        ),
    ]


def compiled(database: Path) -> list[Model]:
    """Every model of the project in an order that respects what reads what."""
    with tempfile.TemporaryDirectory() as target:
        dbt = this_python().with_name("dbt")
        command = [str(dbt), "--quiet", "compile", "--vars", json.dumps(STATED), "--target-path", target]
        environ = {**os.environ, "DBT_DUCKDB_PATH": str(database), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
        done = subprocess.run(
            command,
            cwd=REPOSITORY / "dbt_project",
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"dbt compile failed:\n{done.stdout[-3000:]}")
        nodes = json.loads((Path(target) / "manifest.json").read_text())["nodes"]
    waiting = {key: node for key, node in nodes.items() if node["resource_type"] == "model"}
    models = []
    while waiting:
        ready = [key for key, node in waiting.items() if not waiting.keys() & set(node["depends_on"]["nodes"])]
        for key in ready:
            node = waiting.pop(key)
            relation, config = f"{node['schema']}.{node['name']}", node["config"]
            models.append(Model(relation, node["compiled_code"], config["materialized"], config["unique_key"]))
    return models


def _load(warehouse: DuckDBWarehouse, folder: LandingFolder, until: date) -> None:
    with warehouse.session("load") as session:
        create_raw(session)
        for table in RAW_TABLES.values():
            load_all(session, table, folder.deliveries(table.name, OPENING_DAY, until))


def _backfill(session: Session, models: list[Model], last: date) -> None:
    """Every model anew, for every landing day before `last` and every Monday to it."""
    for model in models:
        session.execute(f"create schema if not exists {quote(model.relation.split('.')[0])}")
        sql = model.between((OPENING_DAY, last - DAY), (FIRST_AS_OF, last))
        session.execute(f"create or replace {_made_as(model)} {quote(model.relation)} as {sql}")


def _made_as(model: Model) -> str:
    return "view" if model.kind == "view" else "table"


def _best_week(session: Session, models: list[Model], monday: date) -> float:
    return min(seconds_of(lambda: _one_week(session, models, monday)) for _ in range(REPEATS))


def _one_week(session: Session, models: list[Model], monday: date) -> None:
    """What the week before `monday` changes: its seven landing days and the Monday; small tables are made anew."""
    landed, as_of = (monday - WEEK, monday - DAY), (monday, monday)
    for model in models:
        relation, sql = quote(model.relation), model.between(landed, as_of)
        if model.kind != "incremental":
            session.execute(f"create or replace {_made_as(model)} {relation} as {sql}")
            continue
        assert model.range_column is not None
        first, last = as_of if model.range_column == "as_of" else landed
        session.execute(f"create or replace temp table one_week as {sql}")
        with session.transaction():
            session.execute(
                f"delete from {relation} where {quote(model.range_column)} between $first and $last",
                {"first": first, "last": last},
            )
            session.execute(f"insert into {relation} by name select * from one_week")


def _beside_plain(session: Session, model: Model) -> Row:
    """The whole model beside a query over raw lines, both for every Monday; refuses to compare what is not equal."""
    name = model.relation.split(".")[1]
    sql = model.between((OPENING_DAY, LAST_AS_OF - DAY), (FIRST_AS_OF, LAST_AS_OF))
    contenders = {
        "ours": lambda: session.execute(f"create or replace temp table ours as {sql}"),
        "plain": lambda: session.execute(f"create or replace temp table plain as {PLAIN[name]}"),
    }
    best = take_turns(contenders, REPEATS)
    shared = ", ".join(quote(column) for column in session.read("select * from plain limit 0").columns)
    same = session.read(
        f"""
        select (select count(*) from plain) as rows, count(*) as differing
        from (
            (select {shared} from ours where days_84d > 0 except select {shared} from plain)
            union all (select {shared} from plain except select {shared} from ours)
        )
        """
    ).row(0, named=True)
    if same["differing"]:
        raise RuntimeError(f"{model.relation} and the plain query differ in {same['differing']} rows")
    note = (
        f"{same['rows']:,} rows; ours gives further columns, the shared {len(shared.split(','))} are equal in every row"
    )
    return Row(f"Features: `{name}`", best["ours"], "s", "plain query over raw lines", best["plain"], GOAL_PLAIN, note)
