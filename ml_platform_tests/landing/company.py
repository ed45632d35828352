"""Tables that a company has already, made of what landed: in dollars and instants, under names of its own."""

from collections.abc import Sequence

from ml_platform.landing.external import ExternalTable
from ml_platform.landing.files import Delivery
from ml_platform.landing.tables import SQL_TYPES
from ml_platform.warehouse.base import Arrival, Column, Session, quote

TYPES = {**SQL_TYPES, "float64": "double"}


def keep_elsewhere(session: Session, external: ExternalTable, deliveries: Sequence[Delivery]) -> None:
    """Makes the external table, its schema too, with the deliveries' rows."""
    for schema in (external.relation.rpartition(".")[0], external.table.relation.partition(".")[0]):  # rows go by it
        session.execute(f"create schema if not exists {quote(schema)}")
    columns = [Column(each.name, TYPES[each.type], each.name) for each in external.table.landed]
    arrivals = [Arrival(delivery.data_path, {"landed_on": delivery.landed_on}) for delivery in deliveries]
    with session.staged(external.table.relation, arrivals, columns) as staged:
        renamed = [f"{quote(each.name)} as {quote(external.source(each.name))}" for each in external.table.landed]
        session.execute(
            f"create table {quote(external.relation)} as"
            f" select {', '.join(renamed)}, landed_on as {quote(external.landed_on)} from {staged}"
        )
