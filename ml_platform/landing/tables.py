"""The raw tables: what lands, what it must look like, and what it becomes in the warehouse.

One `RawTable` is the one statement about a table; the landing contract, the loader, the replay and the asset graph
derive from it. Landed files carry dollars and instants; the warehouse holds integer cents, UTC timestamps and the
shops' local date, and beside every row `landed_on`, the business day it became known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from ml_platform.errors import PlatformError
from ml_platform.monitoring.promises import Promise, Terms
from ml_platform.warehouse.base import Column

Cadence = Literal["daily", "weekly", "dated"]
"""daily: a file every day, if need be an empty one; weekly: the Sunday before its Monday; dated: when there is news."""
Pii = Literal["none", "pseudonym", "personal"]

INSTANT = pa.timestamp("us", tz="UTC")
SQL_TYPES: Mapping[pa.DataType, str] = {
    pa.int64(): "bigint",
    pa.string(): "varchar",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    INSTANT: "timestamp",
}


class UnknownTable(PlatformError):
    """No raw table has this name, however it is spelt."""


@dataclass(frozen=True)
class RawTable:
    """`schema`: the landed file's columns; a non-nullable field may hold no null.

    `key` names a row: once in a file, and again in a later file when a later version replaces it. `fixed` are columns
    that a later version may not change. `instant` is the column of event time, when the table tells of events.
    `promised` are the terms of its freshness; a table that lands when there is news promises none.
    """

    name: str
    description: str
    owner: str
    schema: pa.Schema
    key: tuple[str, ...]
    cadence: Cadence
    instant: str | None = None
    fixed: tuple[str, ...] = ()
    dollars: Mapping[str, str] = field(default_factory=dict)
    pii: Mapping[str, Pii] = field(default_factory=dict)
    promised: tuple[Terms, ...] = ()

    @property
    def relation(self) -> str:
        """The table in the warehouse."""
        return f"raw.{self.name}"

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What the owner promises of the asset `raw/<name>`."""
        return tuple(terms.of(f"raw/{self.name}", self.owner) for terms in self.promised)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The warehouse columns, in order, each with the landed column it is made of (`landed_on` comes after them)."""
        columns: list[Column] = []
        for column in self.schema:
            if column.name in self.dollars:
                columns.append(Column(self.dollars[column.name], "bigint", column.name, "cents"))
            elif column.name == self.instant:
                columns.append(Column(column.name, "timestamp", column.name, "utc"))
                columns.append(Column("event_date", "date", column.name, "business_date"))
            else:
                columns.append(Column(column.name, SQL_TYPES[column.type], column.name))
        return tuple(columns)


def _schema(nullable: tuple[str, ...] = (), **types: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, type_, nullable=name in nullable) for name, type_ in types.items()])


_HOUSEHOLD: Mapping[str, Pii] = {"household_id": "pseudonym"}
_DEMOGRAPHICS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")
_PRODUCT_WORDS = ("department", "brand", "product_category", "product_type", "package_size")

RAW_TABLES: Mapping[str, RawTable] = {
    table.name: table
    for table in (
        RawTable(
            name="products",
            description="The assortment: one row a product, with its place in the hierarchy.",
            owner="team:merchandising",
            schema=_schema(
                ("product_category", "product_type", "package_size"),
                product_id=pa.int64(),
                manufacturer_id=pa.int64(),
                **dict.fromkeys(_PRODUCT_WORDS, pa.string()),
            ),
            key=("product_id",),
            cadence="dated",
        ),
        RawTable(
            name="demographics",
            description="What a third of the households told about themselves, in bands.",
            owner="team:customer-insight",
            schema=_schema(_DEMOGRAPHICS, household_id=pa.int64(), **dict.fromkeys(_DEMOGRAPHICS, pa.string())),
            key=("household_id",),
            cadence="dated",
            pii={**_HOUSEHOLD, **dict.fromkeys(_DEMOGRAPHICS, "personal")},
        ),
        RawTable(
            name="campaigns",
            description="Which household gets which campaign, with its window; known the day before it starts.",
            owner="team:marketing",
            schema=_schema(
                campaign_id=pa.int64(),
                household_id=pa.int64(),
                campaign_type=pa.string(),
                start_date=pa.date32(),
                end_date=pa.date32(),
            ),
            key=("campaign_id", "household_id"),
            cadence="dated",
            pii=_HOUSEHOLD,
        ),
        RawTable(
            name="coupons",
            description="Which coupon of which campaign is good for which product; lands with its campaign.",
            owner="team:marketing",
            schema=_schema(coupon_upc=pa.int64(), product_id=pa.int64(), campaign_id=pa.int64()),
            key=("coupon_upc", "product_id", "campaign_id"),
            cadence="dated",
        ),
        RawTable(
            name="promotions",
            description="Where a product stands on display or in the mailer of a store in the week of a Monday.",
            owner="team:merchandising",
            schema=_schema(
                product_id=pa.int64(),
                store_id=pa.int64(),
                display_location=pa.string(),
                mailer_location=pa.string(),
                week_start=pa.date32(),
            ),
            key=("product_id", "store_id", "display_location", "mailer_location", "week_start"),
            cadence="weekly",
            promised=(Terms("landed", within_days=7),),
        ),
        RawTable(
            name="coupon_redemptions",
            description="A household redeemed a coupon. The source knows the day only: noon, shop time.",
            owner="team:marketing",
            schema=_schema(household_id=pa.int64(), coupon_upc=pa.int64(), campaign_id=pa.int64(), event_ts=INSTANT),
            key=("household_id", "coupon_upc", "campaign_id", "event_ts"),
            cadence="daily",
            promised=(Terms("landed", within_days=1),),
            instant="event_ts",
            pii=_HOUSEHOLD,
        ),
        RawTable(
            name="transactions",
            description="A line of a basket. A later file may correct it or, with is_withdrawn, take it back.",
            owner="team:store-systems",
            schema=_schema(
                household_id=pa.int64(),
                store_id=pa.int64(),
                basket_id=pa.int64(),
                product_id=pa.int64(),
                quantity=pa.int64(),
                sales_value=pa.float64(),
                retail_disc=pa.float64(),
                coupon_disc=pa.float64(),
                coupon_match_disc=pa.float64(),
                event_ts=INSTANT,
                is_withdrawn=pa.bool_(),
            ),
            key=("household_id", "basket_id", "product_id"),
            cadence="daily",
            # No shop is open on Christmas Day: two days later, before the load, the newest receipt is 3 days old.
            promised=(Terms("landed", within_days=1, severity="page"), Terms("newest_event", within_days=3)),
            instant="event_ts",
            fixed=("event_ts",),
            dollars={
                "sales_value": "sales_cents",
                "retail_disc": "retail_disc_cents",
                "coupon_disc": "coupon_disc_cents",
                "coupon_match_disc": "coupon_match_disc_cents",
            },
            pii=_HOUSEHOLD,
        ),
    )
}


def raw_table(name: str) -> RawTable:
    """The table of that name. Raises UnknownTable: a name from outside never becomes a path or SQL unchecked."""
    if name not in RAW_TABLES:
        raise UnknownTable(f"there is no raw table {name!r}", next_step=f"use one of: {', '.join(RAW_TABLES)}")
    return RAW_TABLES[name]
