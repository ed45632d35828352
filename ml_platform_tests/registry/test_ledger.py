import multiprocessing
import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects import postgresql

from ml_platform.errors import ConfigurationError
from ml_platform.registry import migrations
from ml_platform.registry.ledger import Ledger
from ml_platform.registry.records import (
    LedgerTooNew,
    LedgerUnavailable,
    PromotionConflict,
    UnknownVersion,
    VerdictRejected,
    Waiver,
)
from ml_platform.registry.views import history_rows, model_rows
from ml_platform_tests.registry.conftest import MODEL, Shelf, start_process, verdict_on

OLD_LEDGER = Path(__file__).parent / "ledger_v1.sql"
OLD_LEDGERS = (OLD_LEDGER, OLD_LEDGER.with_name("ledger_v2.sql"))
TABLES = ("schema_version", "versions", "verdicts", "entries", "retirements")


def test_the_same_artifact_is_the_same_version_and_another_one_the_next(shelf: Shelf) -> None:
    first = shelf.version("one")
    assert shelf.version("one") == first
    assert [first.version, shelf.version("two").version, shelf.version("one").version] == [1, 2, 1]
    assert [version.bundle_digest for version in shelf.ledger.versions(MODEL)] == ["one", "two"]


def test_what_was_written_is_read_back_equal_by_another_process(shelf: Shelf) -> None:
    shelf.reign("one")
    other = Ledger(shelf.url)
    assert other.champion(MODEL) == shelf.ledger.champion(MODEL)
    assert other.history(MODEL) == shelf.ledger.history(MODEL)
    assert other.verdict(MODEL, 1) == shelf.ledger.verdict(MODEL, 1)
    assert other.models() == [MODEL]


def test_an_unknown_version_says_which_ones_there_are(shelf: Shelf) -> None:
    shelf.version("one")
    with pytest.raises(UnknownVersion, match="no version 7; its versions are 1 to 1"):
        shelf.ledger.version(MODEL, 7)
    with pytest.raises(UnknownVersion, match="it has none yet"):
        shelf.ledger.version("nonesuch", 1)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "statement",
    [
        "delete from {table}",
        "update {table} set rowid = rowid",
        "insert or replace into {table} select * from {table}",
    ],
)
def test_no_row_can_be_changed_removed_or_replaced_by_anyone(shelf: Shelf, table: str, statement: str) -> None:
    shelf.reign("one")
    other = shelf.version("two")
    retired = {"champion_version": 1, "who": "the graph", "reason": "not better", "evidence": {"gain": -0.001}}
    assert shelf.ledger.retire(MODEL, other.version, **retired) == shelf.ledger.retire(MODEL, other.version, **retired)
    path = shelf.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute(f"select * from {table}").fetchall()
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement.format(table=table))
        assert before and connection.execute(f"select * from {table}").fetchall() == before


def test_an_artifact_cannot_be_moved_to_another_version_by_replacing_its_row(shelf: Shelf) -> None:
    shelf.version("one")
    with closing(sqlite3.connect(shelf.url.removeprefix("sqlite:///"))) as connection:
        columns = [row[1] for row in connection.execute("pragma table_info(versions)")]
        moved = ", ".join("9" if column == "version" else column for column in columns)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(f"insert or replace into versions select {moved} from versions")


def test_an_entry_on_an_outdated_view_is_a_conflict_that_names_the_winner(shelf: Shelf) -> None:
    shelf.reign("one")
    seen = shelf.ledger.history(MODEL)[-1]
    for name in ("two", "three"):
        shelf.version(name)
    said: dict[str, Any] = {"reason": "better", "evidence_digest": "evidence"}
    winner = shelf.ledger.append(MODEL, "promote", 2, seen, who="ada", **said)
    with pytest.raises(PromotionConflict, match="ada changed the champion of replenishment first") as conflict:
        shelf.ledger.append(MODEL, "promote", 3, seen, who="grace", **said)
    assert conflict.value.winner == winner
    assert shelf.champions() == [1, 2]


def test_going_there_and_back_again_is_still_a_conflict(shelf: Shelf) -> None:
    shelf.reign("one", "two")
    seen = shelf.ledger.history(MODEL)[-1]
    shelf.rollback()
    shelf.ledger.append(MODEL, "promote", 2, shelf.ledger.history(MODEL)[-1], who="a", reason="r", evidence_digest="e")
    with pytest.raises(PromotionConflict):
        shelf.ledger.append(MODEL, "rollback", 1, seen, who="grace", reason="r", evidence_digest="e")


def test_a_verdict_of_another_artifact_is_rejected(shelf: Shelf) -> None:
    shelf.version("one")
    with pytest.raises(VerdictRejected, match="it is of artifact two, the version is one"):
        shelf.ledger.record_verdict(MODEL, 1, verdict_on("two"), None)
    assert shelf.ledger.verdict(MODEL, 1) is None


def test_a_verdict_that_compares_with_another_than_the_named_champion_is_rejected(shelf: Shelf) -> None:
    shelf.reign("one")
    shelf.version("two")
    for stated, named in ((None, 1), ("one", None), ("zero", 1)):
        with pytest.raises(VerdictRejected, match="it compares with artifact"):
            shelf.ledger.record_verdict(MODEL, 2, verdict_on("two", stated), named)
    assert shelf.ledger.record_verdict(MODEL, 2, verdict_on("two", "one"), 1).champion_version == 1


@pytest.mark.parametrize(
    "change", [{"gates": []}, {"gates": [{"name": "a"}]}, {"gates": None}, {"metrics": {"auc": float("nan")}}]
)
def test_what_does_not_say_what_a_verdict_says_is_rejected(shelf: Shelf, change: dict[str, Any]) -> None:
    shelf.version("one")
    with pytest.raises(VerdictRejected):
        shelf.ledger.record_verdict(MODEL, 1, verdict_on("one") | change, None)


def test_the_newest_verdict_counts_and_the_same_again_is_a_no_op(shelf: Shelf) -> None:
    version = shelf.version("one")
    shelf.judge(version, calibrated=False)
    shelf.judge(version)
    shelf.judge(version)
    newest = shelf.ledger.verdict(MODEL, 1)
    assert newest and (newest.seq, newest.gates) == (2, {"beats_baseline": True, "calibrated": True})


@pytest.mark.parametrize("dump", OLD_LEDGERS, ids=lambda dump: dump.stem)
def test_a_ledger_of_an_older_version_opens_with_its_champion_and_goes_on(tmp_path: Path, dump: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump.read_text())
    shelf = Shelf(f"sqlite:///{path}", Ledger(f"sqlite:///{path}"))
    champion = shelf.ledger.champion(MODEL)
    assert champion and champion.bundle_digest == "digest-1"
    assert model_rows(shelf.ledger, date(2026, 11, 21))[0]["metrics"] == {"auc": 0.78}
    shelf.reign("two")
    assert shelf.champions() == [1, 2]
    with closing(sqlite3.connect(path)) as connection:
        numbers = [number for (number,) in connection.execute("select version from schema_version order by version")]
    assert numbers == [migration.number for migration in migrations.MIGRATIONS] == [1, 2, 3]


@pytest.mark.parametrize("dump", OLD_LEDGERS, ids=lambda dump: dump.stem)
def test_a_migrated_ledger_has_the_same_schema_as_a_new_one(shelf: Shelf, tmp_path: Path, dump: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump.read_text())
    Ledger(f"sqlite:///{path}")
    assert _schema_of(path) == _schema_of(Path(shelf.url.removeprefix("sqlite:///")))


def test_a_migration_that_fails_half_way_leaves_the_old_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD_LEDGER.read_text())
    before = _schema_of(path)
    broken = migrations.Migration(2, lambda _: ["alter table verdicts add column half integer", "not sql"])
    monkeypatch.setattr(migrations, "MIGRATIONS", (migrations.MIGRATIONS[0], broken))
    with pytest.raises(LedgerUnavailable):
        Ledger(f"sqlite:///{path}")
    assert _schema_of(path) == before


def test_a_newer_ledger_is_refused_with_a_clear_word_and_not_touched(shelf: Shelf) -> None:
    path = Path(shelf.url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("insert into schema_version values (99, 'tomorrow')")
        connection.commit()
    before = _schema_of(path)
    with pytest.raises(LedgerTooNew, match=r"schema version 99, this release knows up to 3.*use the release"):
        Ledger(shelf.url)
    assert _schema_of(path) == before


def test_a_file_that_is_no_ledger_and_a_place_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database\n" * 100)
    for place in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "below" / "ledger.db"):
        with pytest.raises(LedgerUnavailable, match=r"notes\.txt"):
            Ledger(f"sqlite:///{place}")


@pytest.mark.parametrize("url", ["nonsense", "mysql+nodriver://x", "postgresql+nodriver://ada:hunter2@db/ledger"])
def test_a_url_that_cannot_serve_is_a_configuration_error_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Ledger(url)
    assert "hunter2" not in str(refusal.value)


def test_many_processes_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    start = multiprocessing.get_context("fork").Barrier(6)

    def register(number: int) -> None:
        start.wait()
        said: dict[str, Any] = {"cutoff": date(2018, 1, 1), "training_set_digest": "t", "spec_digest": "s"}
        Ledger(url).register("m", bundle_digest=f"digest-{number}", bundle_uri="b", run_id="r", **said)

    processes = [start_process(register, number) for number in range(6)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6
    assert sorted(version.version for version in Ledger(url).versions("m")) == [1, 2, 3, 4, 5, 6]


def test_postgresql_gets_the_same_tables_and_refuses_truncate_too() -> None:
    statements = [text for migration in migrations.MIGRATIONS for text in migration.statements(postgresql.dialect.name)]
    for table in TABLES:
        assert any(f"before update or delete on {table} " in text for text in statements)
        assert any(f"before truncate on {table} " in text for text in statements)
    assert not any("raise(abort" in text for text in statements)


def test_history_rows_are_plain_json_with_waivers(shelf: Shelf) -> None:
    version = shelf.version("one")
    shelf.judge(version, calibrated=False)
    shelf.promote(1, Waiver("calibrated", "ada", "the sale starts tomorrow", date(2026, 12, 1)))
    (row,) = history_rows(shelf.ledger, MODEL)
    assert (row["seq"], row["action"], row["from_version"], row["to_version"]) == (1, "promote", None, 1)
    assert row["waivers"] == [
        {"gate": "calibrated", "person": "ada", "reason": "the sale starts tomorrow", "until": "2026-12-01"}
    ]


def test_model_rows_show_the_champion_on_its_evidence_and_when_a_waiver_ended(shelf: Shelf) -> None:
    shelf.version("one")
    assert model_rows(shelf.ledger, date(2026, 11, 21))[0]["champion"] is None
    shelf.judge(shelf.version("one"), calibrated=False)
    shelf.promote(1, Waiver("calibrated", "ada", "the sale starts tomorrow", date(2026, 12, 1)))
    shelf.judge(shelf.version("two"), beats_baseline=False)
    (row,) = model_rows(shelf.ledger, date(2026, 12, 2))
    assert (row["champion"], row["newest_version"], row["newest_failed_gates"]) == (1, 2, ["beats_baseline"])
    assert row["metrics"] == {"auc": 0.78}
    assert [waiver["expired"] for waiver in row["waivers"]] == [True]


def _schema_of(path: Path) -> list[tuple[Any, ...]]:
    """Tables with their columns, and triggers by name."""
    with closing(sqlite3.connect(path)) as connection:
        columns = [
            (table, *column[1:]) for table in TABLES for column in connection.execute(f"pragma table_info({table})")
        ]
        triggers = connection.execute("select name, tbl_name from sqlite_master where type = 'trigger' order by name")
        return columns + triggers.fetchall()
