"""`mlp story`: what happened in this home, day by day, and why."""

from datetime import date

from dagster import DagsterInstance, RunsFilter
from dagster._core.storage.tags import PARTITION_NAME_TAG

from assets.common import CAUSE, MODEL
from ml_platform.cli import output
from ml_platform.cli.instance import open_instance
from ml_platform.monitoring.story import Happening, tell
from ml_platform.settings import Settings

UNEVENTFUL = ("calm", "as promised", "empty")


def show_story(as_json: bool, everything: bool) -> None:
    """A row a happening; calm Mondays only with `everything`, or as JSON."""
    settings = Settings.from_env()
    with open_instance(settings) as instance:
        happened = story(settings, instance)
    if as_json:
        output.show_json([each.to_json() for each in happened])
        return
    show(happened if everything else [each for each in happened if each.event not in UNEVENTFUL])


def show(happened: list[Happening]) -> None:
    """As a table."""
    rows = [
        {"day": each.as_of.isoformat(), "model": each.model, "event": each.event, "cause": each.cause}
        for each in happened
    ]
    output.show_rows(rows, title="Story", as_json=False)


def story(settings: Settings, instance: DagsterInstance) -> list[Happening]:
    """Everything that was kept of what happened in a home."""
    from assets.models import MODELS
    from ml_platform.alerts.book import AlertBook
    from ml_platform.lake import PartitionedTable
    from ml_platform.monitoring.weekly import drift_records, performance_records
    from ml_platform.registry.ledger import Ledger

    lake = settings.lake
    trained = instance.get_runs(RunsFilter(tags={MODEL: list(MODELS)}))
    causes = {
        (run.tags[MODEL], date.fromisoformat(run.tags[PARTITION_NAME_TAG])): run.tags[CAUSE]
        for run in trained
        if CAUSE in run.tags and PARTITION_NAME_TAG in run.tags
    }
    return tell(
        Ledger(settings.ledger_url),
        {name: drift_records(PartitionedTable(lake / "drift", name)) for name in MODELS},
        {name: performance_records(PartitionedTable(lake / "performance", name)) for name in MODELS},
        causes,
        AlertBook(settings.alerts_url).alerts(),
    )
