"""The raw tables: what lands, what it must look like, and what it becomes in the warehouse.

One `RawTable` is the one statement about a table; the landing contract, the loader, the replay and the asset graph
derive from it. Landed files carry dollars and instants; the warehouse holds integer cents, UTC timestamps and the
shops' local date, and beside every row `landed_on`, the business day it became known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from ml_platform.contracts.pii import Pii
from ml_platform.errors import PlatformError
from ml_platform.monitoring.promises import Promise, Terms
from ml_platform.warehouse.base import Column

if TYPE_CHECKING:
    import pyarrow as pa

Cadence = Literal["daily", "weekly", "dated"]
"""daily: a file every day, if need be an empty one; weekly: the Sunday before its Monday; dated: when there is news."""

LandedType = Literal["int64", "float64", "string", "bool", "date32", "instant"]
SQL_TYPES: Mapping[LandedType, str] = {
    "int64": "bigint",
    "string": "varchar",
    "bool": "boolean",
    "date32": "date",
    "instant": "timestamp",
}


@dataclass(frozen=True)
class Landed:
    """A column of a landed file; `instant` is a timestamp in UTC, to the microsecond."""

    name: str
    type: LandedType
    nullable: bool


class UnknownTable(PlatformError):
    """No raw table has this name, however it is spelt."""


@dataclass(frozen=True)
class RawTable:
    """`landed`: the landed file's columns; one that is not nullable may hold no null.

    `key` names a row: once in a file, and again in a later file when a later version replaces it. `fixed` are columns
    that a later version may not change. `instant` is the column of event time, when the table tells of events.
    `promised` are the terms of its freshness; a table that lands when there is news promises none.
    """

    name: str
    description: str
    owner: str
    landed: tuple[Landed, ...]
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

    @cached_property
    def schema(self) -> "pa.Schema":
        """The landed file's columns as Arrow has them."""
        import pyarrow as pa

        made = {"bool": pa.bool_(), "instant": pa.timestamp("us", tz="UTC")}
        types = [made.get(column.type) or getattr(pa, column.type)() for column in self.landed]
        return pa.schema([pa.field(c.name, type_, nullable=c.nullable) for c, type_ in zip(self.landed, types)])

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What the owner promises of the asset `raw/<name>`."""
        return tuple(terms.of(f"raw/{self.name}", self.owner) for terms in self.promised)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The warehouse columns, in order, each with the landed column it is made of (`landed_on` comes after them)."""
        columns: list[Column] = []
        for column in self.landed:
            if column.name in self.dollars:
                columns.append(Column(self.dollars[column.name], "bigint", column.name, "cents"))
            elif column.name == self.instant:
                columns.append(Column(column.name, "timestamp", column.name, "utc"))
                columns.append(Column("event_date", "date", column.name, "business_date"))
            else:
                columns.append(Column(column.name, SQL_TYPES[column.type], column.name))
        return tuple(columns)


def _landed(nullable: tuple[str, ...] = (), **types: LandedType) -> tuple[Landed, ...]:
    return tuple(Landed(name, type_, name in nullable) for name, type_ in types.items())


def _words(names: tuple[str, ...]) -> dict[str, LandedType]:
    return dict.fromkeys(names, "string")


_HOUSEHOLD: Mapping[str, Pii] = {"household_id": "pseudonymous"}
_DEMOGRAPHICS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")
_PRODUCT_WORDS = ("department", "brand", "product_category", "product_type", "package_size")

RAW_TABLES: Mapping[str, RawTable] = {
    table.name: table
    for table in (
        RawTable(
            name="products",
            description="The assortment: one row a product, with its place in the hierarchy.",
            owner="team:merchandising",
            landed=_landed(
                ("product_category", "product_type", "package_size"),
                product_id="int64",
                manufacturer_id="int64",
                **_words(_PRODUCT_WORDS),
            ),
            key=("product_id",),
            cadence="dated",
        ),
        RawTable(
            name="demographics",
            description="What a third of the households told about themselves, in bands.",
            owner="team:customer-insight",
            landed=_landed(_DEMOGRAPHICS, household_id="int64", **_words(_DEMOGRAPHICS)),
            key=("household_id",),
            cadence="dated",
            pii={**_HOUSEHOLD, **dict.fromkeys(_DEMOGRAPHICS, "personal")},
        ),
        RawTable(
            name="campaigns",
            description="Which household gets which campaign, with its window; known the day before it starts.",
            owner="team:marketing",
            landed=_landed(
                campaign_id="int64",
                household_id="int64",
                campaign_type="string",
                start_date="date32",
                end_date="date32",
            ),
            key=("campaign_id", "household_id"),
            cadence="dated",
            pii=_HOUSEHOLD,
        ),
        RawTable(
            name="coupons",
            description="Which coupon of which campaign is good for which product; lands with its campaign.",
            owner="team:marketing",
            landed=_landed(coupon_upc="int64", product_id="int64", campaign_id="int64"),
            key=("coupon_upc", "product_id", "campaign_id"),
            cadence="dated",
        ),
        RawTable(
            name="promotions",
            description="Where a product stands on display or in the mailer of a store in the week of a Monday.",
            owner="team:merchandising",
            landed=_landed(
                product_id="int64",
                store_id="int64",
                display_location="string",
                mailer_location="string",
                week_start="date32",
            ),
            key=("product_id", "store_id", "display_location", "mailer_location", "week_start"),
            cadence="weekly",
            promised=(Terms("landed", within_days=7),),
        ),
        RawTable(
            name="coupon_redemptions",
            description="A household redeemed a coupon. The source knows the day only: noon, shop time.",
            owner="team:marketing",
            landed=_landed(household_id="int64", coupon_upc="int64", campaign_id="int64", event_ts="instant"),
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
            landed=_landed(
                household_id="int64",
                store_id="int64",
                basket_id="int64",
                product_id="int64",
                quantity="int64",
                sales_value="float64",
                retail_disc="float64",
                coupon_disc="float64",
                coupon_match_disc="float64",
                event_ts="instant",
                is_withdrawn="bool",
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

DAILY = tuple(table.name for table in RAW_TABLES.values() if table.cadence == "daily")


def raw_table(name: str) -> RawTable:
    """The table of that name. Raises UnknownTable: a name from outside never becomes a path or SQL unchecked."""
    if name not in RAW_TABLES:
        raise UnknownTable(f"there is no raw table {name!r}", next_step=f"use one of: {', '.join(RAW_TABLES)}")
    return RAW_TABLES[name]
