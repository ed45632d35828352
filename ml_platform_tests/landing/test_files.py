"""A delivery is in sight whole or not at all, and never changes."""

import io
import json
import resource
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ml_platform.calendar import NotADay, parse_day
from ml_platform.errors import PlatformError
from ml_platform.landing.files import LandingConflict, LandingDamaged, LandingFolder, LandingFull, encode
from ml_platform.landing.tables import UnknownTable
from ml_platform_tests import processes
from ml_platform_tests.landing.conftest import DAY, deliver, line, lines
from ml_platform_tests.processes import SIGKILLED


def land_one_line(root: Path) -> None:
    LandingFolder(root).land("transactions", DAY, lines(line()))


def land_on_a_full_disk(root: Path, answer: Path) -> None:
    rows = lines(*(line(basket_id=i, sales_value=i * 1.37) for i in range(20_000)))
    # A limit on the size of a file is the operating system's own refusal in the middle of a write.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        LandingFolder(root).land("transactions", DAY, rows)
    except LandingFull as error:
        answer.write_text(str(error))


def test_a_delivery_reads_back_as_it_was_landed(folder: LandingFolder) -> None:
    landed = folder.land("transactions", DAY, lines(line(), line(product_id=5)))
    assert folder.delivery("transactions", DAY) == landed
    assert pq.read_table(landed.data_path).num_rows == landed.rows == 2


def test_landing_the_same_rows_again_changes_nothing(folder: LandingFolder) -> None:
    first = folder.land("transactions", DAY, lines(line()))
    written = first.data_path.stat().st_mtime_ns
    assert folder.land("transactions", DAY, lines(line())) == first
    assert first.data_path.stat().st_mtime_ns == written


def test_the_same_rows_encoded_by_another_parquet_writer_are_the_same_delivery(folder: LandingFolder) -> None:
    other = io.BytesIO()
    pq.write_table(lines(line()), other, compression="gzip")
    first = deliver(folder, other.getvalue())
    assert folder.land("transactions", DAY, lines(line())) == first
    assert first.data_path.read_bytes() == other.getvalue() != encode(lines(line()))


def test_landing_other_rows_on_the_same_day_is_refused_and_leaves_the_first(folder: LandingFolder) -> None:
    first = folder.land("transactions", DAY, lines(line()))
    with pytest.raises(LandingConflict, match="later day's file"):
        folder.land("transactions", DAY, lines(line(sales_value=2.0)))
    assert folder.delivery("transactions", DAY) == first


def test_a_closed_day_cannot_be_landed_again_as_an_open_one(folder: LandingFolder) -> None:
    folder.land("transactions", DAY, lines(), closed=True)
    with pytest.raises(LandingConflict):
        folder.land("transactions", DAY, lines(), closed=False)


def test_of_many_who_land_the_same_day_at_once_exactly_one_succeeds(folder: LandingFolder) -> None:
    def land(price: int) -> bool:
        try:
            folder.land("transactions", DAY, lines(line(sales_value=float(price))))
        except LandingConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(land, range(8))) == 1
    assert [path.name for path in (folder.root / "transactions").iterdir()] == [DAY.isoformat()]


@pytest.mark.parametrize("point", ["landing:data-written", "landing:manifest-written"])
def test_a_process_killed_before_the_rename_leaves_nothing_in_sight(folder: LandingFolder, point: str) -> None:
    assert processes.run(land_one_line, folder.root, kill_at=point) == SIGKILLED
    assert list((folder.root / "transactions").iterdir()) != []  # what it left is hidden
    assert folder.deliveries("transactions", date.min, date.max) == []
    assert folder.land("transactions", DAY, lines(line())).rows == 1


def test_a_process_killed_after_the_rename_has_landed(folder: LandingFolder) -> None:
    assert processes.run(land_one_line, folder.root, kill_at="landing:landed") == SIGKILLED
    (delivery,) = folder.deliveries("transactions", date.min, date.max)
    assert folder.land("transactions", DAY, lines(line())) == delivery


def test_a_full_disk_is_a_typed_error_and_leaves_nothing(folder: LandingFolder, tmp_path: Path) -> None:
    processes.run(land_on_a_full_disk, folder.root, tmp_path / "answer")
    assert (tmp_path / "answer").read_text().startswith("no room for transactions of 2017-06-05")
    assert list((folder.root / "transactions").iterdir()) == []


@pytest.mark.parametrize("name", ["../transactions", "Transactions", "", "transactions; drop table x", "a/b", "\0"])
def test_a_hostile_table_name_never_becomes_a_path(folder: LandingFolder, name: str) -> None:
    with pytest.raises(UnknownTable, match="use one of"):
        folder.land(name, DAY, lines(line()))
    with pytest.raises(UnknownTable):
        folder.deliveries(name, DAY, DAY)
    assert not folder.root.exists()


@pytest.mark.parametrize(
    "text", ["../2017-06-05", "2017-6-5", "20170605", "2017-06-05'--", "2017-W23-1", " 2017-06-05", "２017-06-05", ""]
)
def test_a_hostile_day_is_refused(text: str) -> None:
    with pytest.raises(NotADay):
        parse_day(text)


def test_names_that_are_not_days_are_not_deliveries(folder: LandingFolder) -> None:
    delivery = folder.land("transactions", DAY, lines(line()))
    for name in ("2017-6-6", ".2017-06-06-x", "README", "2017-06-07"):  # the last one has no manifest yet
        (folder.root / "transactions" / name).mkdir()
    assert folder.deliveries("transactions", date.min, date.max) == [delivery]


def test_a_folder_without_a_manifest_is_in_the_way_and_is_not_overwritten(folder: LandingFolder) -> None:
    stray = folder.root / "transactions" / DAY.isoformat() / "data.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"half a file")
    with pytest.raises(LandingConflict):
        folder.land("transactions", DAY, lines(line()))
    assert stray.read_bytes() == b"half a file"


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"table": "products"}, "tells of products"),
        ({"landed_on": "2017-06-06"}, "2017-06-06"),
        ({"rows": "many"}, "cannot be read"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(folder: LandingFolder, manifest: dict, words: str) -> None:
    with pytest.raises(LandingDamaged, match=words):
        deliver(folder, encode(lines(line())), **manifest)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", json.dumps({"format_version": 1})])
def test_a_torn_manifest_is_refused(folder: LandingFolder, text: str) -> None:
    delivery = folder.land("transactions", DAY, lines(line()))
    (delivery.folder / "manifest.json").write_text(text)
    with pytest.raises(PlatformError, match="cannot be read"):
        folder.deliveries("transactions", DAY, DAY)


def test_landed_through_stops_before_the_first_gap_of_any_daily_table(folder: LandingFolder) -> None:
    assert folder.landed_through() is None
    for table, offsets in (("transactions", (0, 1, 2, 4)), ("coupon_redemptions", (0, 1, 3, 4))):
        for offset in offsets:
            folder.land(table, DAY + timedelta(days=offset), lines())
    assert folder.landed_through() == DAY + timedelta(days=1)


def test_a_landing_folder_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert LandingFolder(tmp_path / "nowhere").deliveries("products", date.min, date.max) == []
