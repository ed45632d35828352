from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from ml_platform.contracts import AS_OF, Column
from ml_platform.features.pit import LabelsUnusable
from ml_platform.features.request import UnreadableLabels, get_features
from ml_platform.features.store import FeatureStore, UnknownFeature
from ml_platform.lake import LakeWriteFailed
from ml_platform_tests.features.conftest import HOUSEHOLD, MONDAYS

SPEND, LINES = "household:spend_cents_28d", "household_category:lines_28d"


def labels(*rows: tuple[int, str, date]) -> pl.DataFrame:
    schema = {"household_id": pl.Int64, "product_category": pl.String, "as_of": pl.Date}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def test_labels_get_each_tables_features_as_known_then_and_keep_their_order(store: FeatureStore) -> None:
    asked = labels((2, "BREAD", date(2017, 6, 14)), (1, "007", MONDAYS[0]), (4, "BREAD", MONDAYS[2]))
    joined = store.join(asked, [SPEND, LINES])
    assert joined["household__spend_cents_28d"].to_list() == [102, 1, 204]
    assert joined["household_category__lines_28d"].to_list() == [30, 20, None]
    assert joined["household_category__as_of"].to_list() == [MONDAYS[1], MONDAYS[0], None]
    assert joined.select(asked.columns).equals(asked)


def test_a_reference_named_twice_is_one_column(store: FeatureStore) -> None:
    joined = store.join(labels((1, "BREAD", MONDAYS[0])), [SPEND, SPEND])
    assert joined.columns[3:] == ["household__as_of", "household__spend_cents_28d"]


def test_only_partitions_that_can_be_met_are_read(store: FeatureStore) -> None:
    for monday in (MONDAYS[0], MONDAYS[2]):
        store.table("household").require(monday.isoformat()).path.unlink()
    joined = store.join(labels((1, "BREAD", date(2017, 6, 18))), [SPEND], timedelta(days=6))
    assert joined["household__spend_cents_28d"].to_list() == [101]


def test_a_time_to_live_of_no_days_takes_the_same_monday_only(store: FeatureStore) -> None:
    asked = labels((1, "BREAD", MONDAYS[1]), (1, "BREAD", date(2017, 6, 13)))
    assert store.join(asked, [SPEND], timedelta(0))["household__spend_cents_28d"].to_list() == [101, None]


@pytest.mark.parametrize("asked", [labels(), labels((1, "BREAD", date(2016, 1, 4)))])
def test_labels_that_meet_nothing_get_typed_nulls(store: FeatureStore, asked: pl.DataFrame) -> None:
    joined = store.join(asked, [SPEND])
    assert joined.height == asked.height
    assert joined["household__spend_cents_28d"].dtype == pl.Int64
    assert joined["household__spend_cents_28d"].null_count() == asked.height


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("household:spend_cents_29d", "spend_cents_28d"),
        ("houshold:spend_cents_28d", "household"),
        ("spend_cents_28d", "household"),
        ("household:", "spend_cents_28d"),
        ("household:as_of", "spend_cents_28d"),
    ],
)
def test_an_unknown_reference_names_what_is_near(store: FeatureStore, reference: str, hint: str) -> None:
    with pytest.raises(UnknownFeature) as caught:
        store.join(labels((1, "BREAD", MONDAYS[0])), [reference])
    assert hint in caught.value.next_step


def test_a_csv_of_ones_own_comes_back_with_features_beside_it(store: FeatureStore, tmp_path: Path) -> None:
    mine, out = tmp_path / "mine.csv", tmp_path / "answers" / "out.csv"
    mine.write_text("who,household_id,product_category,as_of\nb,1,007,2017-06-14\na,9,BREAD,2017-06-14\n")
    answer = get_features(store, mine, [SPEND, LINES], out)
    assert answer.rows == 2
    assert answer.found == {"household": 1, "household_category": 1}
    read = pl.read_csv(out, schema_overrides={"product_category": pl.String})
    assert read["who"].to_list() == ["b", "a"]
    assert read["product_category"].to_list() == ["007", "BREAD"]
    assert read["household_category__lines_28d"].to_list() == [20, None]


def test_lists_come_beside_labels_as_parquet_and_are_refused_as_csv(tmp_path: Path) -> None:
    products = Column("products", "list[int64]", "Products", "id", lower=1)
    table = replace(HOUSEHOLD, columns=(HOUSEHOLD.column("household_id"), AS_OF, products))
    store = FeatureStore(tmp_path / "lake", {"household": table})
    rows = pl.DataFrame({"household_id": [1, 2], "as_of": [MONDAYS[0]] * 2, "products": [[7, 3, 7], [5]]})
    store.table("household").publish(store.table("household").stage(MONDAYS[0].isoformat(), table.conform(rows)))
    mine, out = tmp_path / "mine.csv", tmp_path / "out.parquet"
    mine.write_text("household_id,as_of\n2,2017-06-05\n9,2017-06-05\n1,2017-06-07\n")
    get_features(store, mine, ["household:products"], out)
    assert pl.read_parquet(out)["household__products"].to_list() == [[5], None, [7, 3, 7]]
    with pytest.raises(UnreadableLabels, match="household__products"):
        get_features(store, mine, ["household:products"], tmp_path / "out.csv")


def test_instants_in_a_csv_keep_their_time_zone(store: FeatureStore, tmp_path: Path) -> None:
    mine, out = tmp_path / "mine.csv", tmp_path / "out.parquet"
    mine.write_text("household_id,at\n1,2017-06-11T23:30:00-04:00\n1,2017-06-12T00:30:00-04:00\n")
    get_features(store, mine, [SPEND], out, label_time="at")
    assert pl.read_parquet(out)["household__spend_cents_28d"].to_list() == [1, 101]


def test_naive_instants_in_a_csv_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("household_id,at\n1,2017-06-11 23:30:00\n")
    with pytest.raises(LabelsUnusable, match="no time zone"):
        get_features(store, mine, [SPEND], tmp_path / "out.parquet", label_time="at")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.parquet", b"no parquet"),
        ("mine.csv", b""),
        ("mine.csv", b"household_id,as_of\nx,2017-06-12\n"),
        ("mine.xlsx", b"PK"),
        ("mine", b"household_id,as_of\n1,2017-06-12\n"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_clear_word(
    store: FeatureStore, tmp_path: Path, name: str, content: bytes
) -> None:
    mine = tmp_path / name
    mine.write_bytes(content)
    with pytest.raises(UnreadableLabels) as caught:
        get_features(store, mine, [SPEND], tmp_path / "out.parquet")
    assert str(mine) in str(caught.value)
    assert not (tmp_path / "out.parquet").exists()


def test_an_answer_that_cannot_be_written_leaves_what_was_there(store: FeatureStore, tmp_path: Path) -> None:
    mine, out = tmp_path / "mine.csv", tmp_path / "out.parquet"
    mine.write_text("household_id,as_of\n1,2017-06-12\n")
    out.mkdir()
    with pytest.raises(LakeWriteFailed):
        get_features(store, mine, [SPEND], out)
    assert out.is_dir()
