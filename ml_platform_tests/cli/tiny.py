"""A graph of three assets with the platform's two partitionings, for runs that cost milliseconds."""

import os
import time
from pathlib import Path

import dagster as dg

from ml_platform.calendar import BUSINESS_TIMEZONE
from ml_platform.errors import PlatformError

DAYS = dg.DailyPartitionsDefinition("2016-12-31", end_date="2018-01-08", timezone=BUSINESS_TIMEZONE)
MONDAYS = dg.WeeklyPartitionsDefinition("2017-01-30", end_date="2018-01-08", day_offset=1, timezone=BUSINESS_TIMEZONE)
BREAK = "TINY_BREAK"
HANG = "TINY_HANG"


class TinyTrouble(PlatformError):
    """What the tiny graph raises when told to."""


@dg.asset(key=["raw", "t"], partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), pool="warehouse")
def raw(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    print("a step that prints would tear the progress view")
    if os.environ.get(HANG):
        Path(os.environ[HANG]).touch()
        time.sleep(120)
    if os.environ.get(BREAK):
        raise TinyTrouble("the file is torn", where="raw/t/2017-01-01", next_step="land it again")
    return dg.MaterializeResult(metadata={"dagster/row_count": len(context.partition_keys)})


@dg.asset(
    key=["features", "f"],
    deps=[raw],
    partitions_def=MONDAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("bounds", asset=["features", "f"])],
)
def features() -> dg.MaterializeResult:
    check = dg.AssetCheckResult(check_name="bounds", passed=False, description="one value is below 0")
    return dg.MaterializeResult(metadata={"dagster/row_count": 7}, check_results=[check])


@dg.asset(
    key=["models", "m", "champion"], deps=[features], config_schema={"action": dg.Field(str, default_value="decide")}
)
def champion(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"action": context.op_config["action"]})


defs = dg.Definitions(assets=[raw, features, champion])
