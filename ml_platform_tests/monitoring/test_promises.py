"""A promise is judged by the newest there is, on the clock of its home, without opening the warehouse."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets.models import MODELS
from assets.slo import PROMISES, read_promises
from ml_platform.calendar import DAY, WEEK, days
from ml_platform.clock import Clock
from ml_platform.errors import ConfigurationError
from ml_platform.lake import PartitionedTable
from ml_platform.landing.files import LandingFolder
from ml_platform.landing.loaded import LoadedUnreadable, note_loaded, read_loaded
from ml_platform.landing.loading import create_raw, load_all
from ml_platform.landing.tables import RAW_TABLES, UnknownTable
from ml_platform.monitoring.places import places_in
from ml_platform.monitoring.promises import Places, Promise, Reading, Terms, default_promises, measure, measure_all
from ml_platform.registry.ledger import Ledger
from ml_platform.settings import Settings
from ml_platform.warehouse.duckdb import DuckDBWarehouse
from ml_platform_tests.landing.conftest import line, lines

TODAY = date(2017, 6, 8)  # a Thursday
TRANSACTIONS = RAW_TABLES["transactions"]
LANDED, NEWEST_EVENT = TRANSACTIONS.promises
FEATURES = Terms("as_of", within_days=1).of("features/household", "team:customer-analytics")
MODEL_AGE, PREDICTION_AGE = default_promises("tiny_model", "ada@example.com")
HOSTILE = ("../etc/passwd", "features/../x", "features/a b", "raw/x;drop table y", "", "features/household\n", "raw/é")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env({"ML_PLATFORM_HOME": str(tmp_path)})


@pytest.fixture
def places(settings: Settings) -> Places:
    return places_in(settings.lake, settings.ledger_url)


def load(settings: Settings, *landing_days: date) -> None:
    """Lands a line of each day's noon and loads it, as the raw asset does."""
    folder = LandingFolder(settings.landing)
    for day in landing_days:
        noon = datetime(day.year, day.month, day.day, 16, tzinfo=UTC)
        folder.land("transactions", day, lines(line(event_ts=noon, basket_id=day.toordinal())))
    with DuckDBWarehouse(settings.warehouse_file).session("load") as session:
        create_raw(session)
        load_all(
            session, TRANSACTIONS, [d for day in landing_days for d in folder.deliveries("transactions", day, day)]
        )
        note_loaded(session, settings.lake, TRANSACTIONS)


def publish(settings: Settings, asset: str, *mondays: date) -> None:
    kind, name = asset.split("/")
    table = PartitionedTable(settings.lake / kind, name)
    for monday in mondays:
        table.publish(table.stage(monday.isoformat(), pl.DataFrame({"n": [1]})))


def crown(settings: Settings, cutoff: date) -> None:
    """A champion of that cutoff, through the ledger's own methods."""
    ledger = Ledger(settings.ledger_url)
    digest = cutoff.isoformat()
    version = ledger.register(
        "tiny_model",
        bundle_digest=digest,
        bundle_uri="nowhere",
        cutoff=cutoff,
        training_set_digest="t",
        spec_digest="s",
        run_id="run",
    )
    history = ledger.history("tiny_model")
    ledger.append(
        "tiny_model", "promote", version.version, history[-1] if history else None, who="ada", reason="new",
        evidence_digest="e",
    )  # fmt: skip


def state(promise: Promise, places: Places, today: date = TODAY) -> tuple[str, int | None]:
    reading = measure(promise, places, today)
    return reading.state, reading.lag_days


def constant(day: date | None) -> Places:
    return Places(lambda _: day, lambda _: day, lambda _: [] if day is None else [day.isoformat()], lambda _: day)


@pytest.mark.parametrize("promise", [LANDED, NEWEST_EVENT, FEATURES, MODEL_AGE, PREDICTION_AGE], ids=lambda p: p.name)
def test_before_the_first_thing_is_made_a_promise_is_unknown_and_not_broken(promise: Promise, places: Places) -> None:
    reading = measure(promise, places, TODAY)
    assert (reading.state, reading.held, reading.newest, reading.since) == ("unknown", None, None, None)
    assert reading.found == "nothing was ever made"


@pytest.mark.parametrize(
    ("promise", "newest", "lag"),
    [
        (LANDED, TODAY - DAY, 0),
        (LANDED, TODAY - 2 * DAY, 1),
        (NEWEST_EVENT, TODAY - DAY, 1),
        (FEATURES, date(2017, 6, 5), 0),
        (FEATURES, date(2017, 5, 29), 3),
        (MODEL_AGE, TODAY - 182 * DAY, 182),
        (PREDICTION_AGE, date(2017, 6, 5), 3),
    ],
)
def test_the_lag_counts_what_the_kind_of_promise_says(promise: Promise, newest: date, lag: int) -> None:
    assert measure(promise, constant(newest), TODAY).lag_days == lag


@pytest.mark.parametrize("promise", [LANDED, NEWEST_EVENT, FEATURES, MODEL_AGE, PREDICTION_AGE], ids=lambda p: p.name)
def test_a_promise_breaks_on_the_day_after_the_last_one_allowed_and_says_since_when(promise: Promise) -> None:
    newest = date(2017, 1, 2)
    readings = [measure(promise, constant(newest), day) for day in days(newest, newest + 400 * DAY)]
    broken = [reading for reading in readings if reading.held is False]
    first = broken[0]
    assert first.lag_days == promise.within_days + 1
    assert {reading.since for reading in broken} == {first.day}
    assert all(reading.held for reading in readings[: readings.index(first)])


def test_loading_an_old_day_again_does_not_turn_a_late_table_green(settings: Settings, places: Places) -> None:
    load(settings, TODAY - 6 * DAY, TODAY - 5 * DAY)
    assert state(LANDED, places) == ("broken", 4)
    load(settings, TODAY - 7 * DAY)
    load(settings, TODAY - 6 * DAY)
    assert state(LANDED, places) == ("broken", 4)
    assert state(NEWEST_EVENT, places) == ("broken", 5)


def test_a_late_table_that_catches_up_holds_again(settings: Settings, places: Places) -> None:
    load(settings, TODAY - 5 * DAY)
    assert state(LANDED, places) == ("broken", 4)
    load(settings, TODAY - 4 * DAY, TODAY - 3 * DAY)
    assert state(LANDED, places) == ("broken", 2)
    load(settings, TODAY - 2 * DAY, TODAY - DAY)
    assert state(LANDED, places) == ("held", 0)


def test_a_file_that_lands_on_time_with_old_events_keeps_one_promise_and_breaks_the_other(
    settings: Settings, places: Places
) -> None:
    folder = LandingFolder(settings.landing)
    old = datetime(2017, 6, 1, 16, tzinfo=UTC)
    delivery = folder.land("transactions", TODAY - DAY, lines(line(event_ts=old)))
    with DuckDBWarehouse(settings.warehouse_file).session("load") as session:
        create_raw(session)
        load_all(session, TRANSACTIONS, [delivery])
        note_loaded(session, settings.lake, TRANSACTIONS)
    assert state(LANDED, places) == ("held", 0)
    assert state(NEWEST_EVENT, places) == ("broken", 7)


def test_the_promises_are_read_while_another_process_holds_the_warehouse(settings: Settings) -> None:
    load(settings, TODAY - DAY)
    with DuckDBWarehouse(settings.warehouse_file).session("someone else"):
        readings = {reading.promise.name: reading for reading in read_promises(settings, TODAY)}
    assert readings["raw/transactions landed"].held is True


def test_publishing_an_old_monday_does_not_turn_stale_features_green(settings: Settings, places: Places) -> None:
    publish(settings, "features/household", date(2017, 5, 15), date(2017, 5, 22))
    assert state(FEATURES, places) == ("broken", 10)
    publish(settings, "features/household", date(2017, 5, 8), date(2017, 5, 15))
    assert state(FEATURES, places) == ("broken", 10)
    publish(settings, "features/household", date(2017, 6, 5))
    assert state(FEATURES, places) == ("held", 0)


def test_a_partition_of_a_day_to_come_and_what_is_no_partition_do_not_count(settings: Settings, places: Places) -> None:
    publish(settings, "features/household", date(2017, 5, 22), date(2018, 1, 1))
    for name in ("2017-06-5.json", "latest.json", "..json", ".2017-06-05.json", "2017-06-05.json.tmp"):
        (settings.lake / "features" / "household" / "published" / name).write_text("{}")
    assert state(FEATURES, places) == ("broken", 10)


def test_the_champions_cutoff_decides_and_not_the_newest_version(settings: Settings, places: Places) -> None:
    crown(settings, TODAY - 200 * DAY)
    Ledger(settings.ledger_url).register(
        "tiny_model", bundle_digest="new", bundle_uri="nowhere", cutoff=TODAY, training_set_digest="t",
        spec_digest="s", run_id="run",
    )  # fmt: skip
    assert state(MODEL_AGE, places) == ("broken", 200)
    crown(settings, TODAY - 10 * DAY)
    assert state(MODEL_AGE, places) == ("held", 10)


def test_in_a_replayed_year_each_day_is_judged_as_that_day_was(settings: Settings, places: Places) -> None:
    clock, found = Clock(settings.home), {}
    for day in days(TODAY, TODAY + 4 * DAY):
        clock.move_to(day)
        if day in (TODAY, TODAY + 3 * DAY):  # for two days nothing is loaded, then all that landed
            load(settings, *days(day - 3 * DAY, day - DAY))
        found[(day - TODAY).days] = state(LANDED, places, clock.today())
    assert found == {0: ("held", 0), 1: ("held", 1), 2: ("broken", 2), 3: ("held", 0), 4: ("held", 1)}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b'{"format_version": 2}', b'{"format_version": 1, "table": "products"}',
        b'{"format_version": 1, "table": "transactions", "landed_on": "2017-6-7", "event": null}',
        b'{"format_version": 1, "table": "transactions", "landed_on": 5, "event": null}', b"\xff\xfe",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_broken_with_the_cause_and_hides_no_other_promise(
    settings: Settings, places: Places, content: bytes
) -> None:
    load(settings, TODAY - DAY)
    publish(settings, "features/household", date(2017, 6, 5))
    (settings.lake / "loaded" / "transactions.json").write_bytes(content)
    with pytest.raises(LoadedUnreadable, match=r"transactions\.json"):
        read_loaded(settings.lake, "transactions")
    broken, held = measure_all([LANDED, FEATURES], places, TODAY)
    assert (broken.state, broken.since, held.state) == ("broken", TODAY, "held")
    assert "cannot be read" in broken.found and "mlp run" in broken.found


def test_the_note_is_written_only_for_what_is_loaded_and_for_a_table_that_exists(settings: Settings) -> None:
    with DuckDBWarehouse(settings.warehouse_file).session("load") as session:
        create_raw(session)
        assert note_loaded(session, settings.lake, TRANSACTIONS) is None
    assert read_loaded(settings.lake, "transactions") is None
    for name in HOSTILE:
        with pytest.raises(UnknownTable):
            read_loaded(settings.lake, name)


@pytest.mark.parametrize("asset", HOSTILE)
def test_an_asset_whose_name_could_be_a_path_or_sql_cannot_be_promised(asset: str) -> None:
    for kind in ("landed", "as_of", "model_age", "prediction_age"):
        with pytest.raises(ConfigurationError, match="cannot be promised"):
            Terms(kind, within_days=1).of(asset, "team:a")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"kind": "fresh"}, "kind"),
        ({"within_days": -1}, "within_days"),
        ({"within_days": 1.5}, "within_days"),
        ({"within_days": True}, "within_days"),
        ({"window_days": 0}, "window_days"),
        ({"objective": 0.0}, "objective"),
        ({"objective": 1.01}, "objective"),
        ({"objective": float("nan")}, "objective"),
        ({"severity": "loud"}, "severity"),
        ({"owner": "nobody in particular"}, "owner"),
        ({"kind": "model_age"}, "asset"),
    ],
)
def test_what_cannot_be_promised_is_refused_where_it_is_declared(words: dict[str, Any], says: str) -> None:
    usual: dict[str, Any] = {"asset": "raw/transactions", "kind": "landed", "within_days": 1, "owner": "team:a"}
    with pytest.raises(ConfigurationError, match=says):
        Promise(**{**usual, **words})


def test_every_kind_of_promise_says_what_is_promised_and_found_in_one_measure() -> None:
    found = Reading(LANDED, TODAY, date(2017, 6, 3), 4, False)
    assert LANDED.promised == "what lands is loaded within 1 day"
    assert found.found == "loaded through 2017-06-03, 4 days behind"
    for promise in (LANDED, NEWEST_EVENT, FEATURES, MODEL_AGE, PREDICTION_AGE):
        reading = replace(found, promise=promise)
        assert str(promise.within_days) in promise.promised and "2017-06-03" in reading.found
        assert promise.runbook in ("docs/runbooks/freshness.md", "docs/runbooks/slo.md")


def test_everything_declared_is_promised_once_by_its_owner() -> None:
    names = [promise.name for promise in PROMISES]
    assert len(set(names)) == len(names)
    assert {"raw/transactions landed", "raw/transactions newest_event", "features/household as_of"} <= set(names)
    for spec in MODELS.values():
        wanted = {f"models/{spec.name}/champion model_age", f"predictions/{spec.name} prediction_age"}
        assert wanted <= set(names)
        assert {promise.owner for promise in PROMISES if promise.name in wanted} == {spec.owner}


def test_reading_every_promise_is_quick(settings: Settings) -> None:
    publish(settings, "features/household", *(date(2017, 1, 2) + n * WEEK for n in range(10)))
    read_promises(settings, TODAY)  # imports
    begun = datetime.now(UTC)
    readings = read_promises(settings, TODAY)
    assert datetime.now(UTC) - begun < timedelta(seconds=1)  # milliseconds, on a machine that has nothing else to do
    assert len(readings) == len(PROMISES)
