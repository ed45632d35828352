"""A delivery that breaks the contract is refused whole, by name of the rule, and nothing of it is loaded."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from ml_platform.landing.contract import ContractViolation, Rule, verify
from ml_platform.landing.files import LandingFolder, encode
from ml_platform.landing.loading import load_all
from ml_platform.landing.tables import RAW_TABLES
from ml_platform.warehouse.base import Session
from ml_platform_tests.landing.conftest import DAY, deliver, line, lines

GOOD = lines(line())
TABLE = RAW_TABLES["transactions"]


def with_column(name: str, values: pa.Array) -> pa.Table:
    return GOOD.set_column(GOOD.schema.get_field_index(name), name, values)


LAST_SECOND_OF_DAY = datetime(2017, 6, 6, 3, 59, 59, tzinfo=UTC)
FIRST_SECOND_OF_NEXT_DAY = datetime(2017, 6, 6, 4, tzinfo=UTC)

BROKEN: dict[Rule, tuple[pa.Table, str]] = {
    "missing_column": (GOOD.drop_columns(["store_id"]), "store_id"),
    "unexpected_column": (GOOD.append_column("card_number", pa.array([1])), "card_number"),
    "wrong_type": (with_column("quantity", pa.array(["one"])), "quantity is string, not int64"),
    "naive_timestamp": (with_column("event_ts", pa.array([0], pa.timestamp("us"))), "event_ts has no time zone"),
    "null": (with_column("product_id", pa.array([None], pa.int64())), "product_id is null in 1 rows"),
    "future_event": (lines(line(event_ts=FIRST_SECOND_OF_NEXT_DAY)), "after the day it landed"),
    "duplicate_key": (lines(line(), line(sales_value=2.0)), "'basket_id': 3"),
}


def refusal(session: Session, folder: LandingFolder, content: bytes, **manifest: Any) -> ContractViolation:
    delivery = deliver(folder, content, **manifest)
    with pytest.raises(ContractViolation) as caught:
        load_all(session, TABLE, [delivery])
    counts = session.read("select (select count(*) from raw.transactions) + (select count(*) from raw.loads) as n")
    assert counts["n"][0] == 0
    return caught.value


@pytest.mark.parametrize("rule", BROKEN)
def test_rows_that_break_a_rule_are_refused_with_its_name(session: Session, folder: LandingFolder, rule: Rule) -> None:
    data, words = BROKEN[rule]
    error = refusal(session, folder, encode(data), rows=data.num_rows)
    assert error.rule == rule
    assert words in error.what
    assert "transactions 2017-06-05" in error.where and error.next_step


def test_an_event_in_the_last_second_of_the_shops_day_is_not_in_the_future(folder: LandingFolder) -> None:
    verify(TABLE, deliver(folder, encode(lines(line(event_ts=LAST_SECOND_OF_DAY)))))


@pytest.mark.parametrize(
    ("rule", "manifest"),
    [("digest", {"sha256": "0" * 64}), ("row_count", {"rows": 2}), ("closed_with_rows", {"closed": True})],
)
def test_a_manifest_that_differs_from_its_data_is_refused(
    session: Session, folder: LandingFolder, rule: Rule, manifest: dict
) -> None:
    assert refusal(session, folder, encode(GOOD), **manifest).rule == rule


def test_data_changed_after_it_landed_is_refused(session: Session, folder: LandingFolder) -> None:
    delivery = folder.land("transactions", DAY, GOOD)
    content = bytearray(delivery.data_path.read_bytes())
    content[len(content) // 2] ^= 1
    delivery.data_path.write_bytes(content)
    with pytest.raises(ContractViolation) as caught:
        load_all(session, TABLE, [delivery])
    assert caught.value.rule == "digest"


@pytest.mark.parametrize("keep", [0, 3, 4, 200, -1])
def test_a_truncated_file_is_refused_even_if_its_digest_was_taken_after_the_cut(
    session: Session, folder: LandingFolder, keep: int
) -> None:
    assert refusal(session, folder, encode(GOOD)[:keep]).rule == "unreadable"


def test_a_file_damaged_before_its_digest_was_taken_is_refused(session: Session, folder: LandingFolder) -> None:
    content = encode(lines(*(line(basket_id=basket) for basket in range(500))))
    assert refusal(session, folder, content[:40] + b"\xff" * 400 + content[440:], rows=500).rule == "unreadable"


def test_a_manifest_without_its_data_is_refused(session: Session, folder: LandingFolder) -> None:
    delivery = folder.land("transactions", DAY, GOOD)
    delivery.data_path.unlink()
    with pytest.raises(ContractViolation) as caught:
        load_all(session, TABLE, [delivery])
    assert caught.value.rule == "data_missing"


def test_strings_are_strings_whatever_layout_the_sender_uses(folder: LandingFolder) -> None:
    products = RAW_TABLES["products"]
    words = [field.name for field in products.schema if field.type == pa.string()]
    row = {"product_id": 1, "manufacturer_id": 2, **dict.fromkeys(words, "x")}
    plain = pa.Table.from_pylist([row], schema=products.schema)
    large = plain.cast(
        pa.schema([field.with_type(pa.large_string()) if field.name in words else field for field in plain.schema])
    )
    coded = plain.set_column(2, words[0], plain.column(2).dictionary_encode())
    for offset, table in enumerate((plain, large, coded)):
        verify(products, folder.land("products", DAY.replace(day=1 + offset), table))
