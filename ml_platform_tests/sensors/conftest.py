"""A home of its own with a real ledger and lake, a real Dagster instance on SQLite, and sensors ticked one by one."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_platform.alerts.book import AlertBook
from ml_platform.alerts.records import Alert
from ml_platform.alerts.sinks import read_lines
from ml_platform.clock import Clock
from ml_platform.registry.ledger import Ledger
from ml_platform.registry.records import ModelVersion
from ml_platform.settings import Settings
from resources import LakeResource, LandingResource, LedgerResource, TrackingResource

MONDAY = date(2017, 9, 4)
NOW = datetime(2017, 9, 1, 12, tzinfo=UTC)
NO_LOOK = '{"format_version": 1, "aliases": {}, "ticks_to_look": 1000}'  # at MLflow, whose import takes seconds
ELSEWHERE = (
    "ML_PLATFORM_ALERTS_URL", "ML_PLATFORM_LEDGER_URL", "ML_PLATFORM_PROFILE", "ML_PLATFORM_SLACK_URL",
    "ML_PLATFORM_PAGERDUTY_KEY", "ML_PLATFORM_UI_URL", "ML_PLATFORM_HOUSEHOLDS", "MLFLOW_TRACKING_URI", "DAGSTER_HOME",
)  # fmt: skip


@dataclass
class House:
    """A home, an instance, and the cursor of the sensor `alerts` in it."""

    settings: Settings
    instance: dg.DagsterInstance
    cursor: str | None = field(default_factory=lambda: NO_LOOK)

    @property
    def clock(self) -> Clock:
        return Clock(self.settings.home)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.settings.ledger_url, self.clock.now)

    @property
    def book(self) -> AlertBook:
        return AlertBook(self.settings.alerts_url)

    def context(self, repository: Any, sensor: dg.SensorDefinition) -> dg.SensorEvaluationContext:
        return dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=repository,
            sensor_name=sensor.name,
            resources={
                "lake": LakeResource(),
                "landing": LandingResource(),
                "ledger": LedgerResource(),
                "tracking": TrackingResource(),
            },
        )

    def tick(self, repository: Any) -> str:
        """One tick of `alerts`, as the daemon does it: what it says; its cursor is kept."""
        from sensors.alerts import alerts

        with self.context(repository, alerts) as context:
            done = alerts.evaluate_tick(context)
        self.cursor = done.cursor
        assert done.run_requests == [] and done.skip_message, "it launches nothing, and says what it did"
        return done.skip_message

    def alerts(self, kind: str | None = None, state: str | None = None) -> list[Alert]:
        """What the book has, oldest first."""
        found = reversed(self.book.alerts())
        return [each for each in found if kind in (None, each.kind) and state in (None, each.state)]

    def lines(self) -> list[dict[str, Any]]:
        """What the sink received, each once by its dedup key."""
        return list(read_lines(self.settings.alerts_log))

    def told(self) -> list[tuple[str, str]]:
        """(event, title) of every message that is no digest."""
        return [(each["event"], each["alert"]["title"]) for each in self.lines() if "alert" in each]

    def loaded(self, table: str, day: date) -> None:
        """The note of a load: the table is there through `day`, landings and events."""
        note = {"format_version": 1, "table": table, "landed_on": day.isoformat(), "event": day.isoformat()}
        path = self.settings.lake / "loaded" / f"{table}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(note))

    def version(self, model: str, name: str, cutoff: date = MONDAY, **gates: bool) -> ModelVersion:
        """A version with a verdict against the present champion that passes every gate but those given as False."""
        from assets.models import MODELS

        book = self.ledger
        champion = book.champion(model)
        version = book.register(
            model,
            bundle_digest=name,
            bundle_uri=f"bundles/{name}",
            cutoff=cutoff,
            training_set_digest=f"training-{name}",
            spec_digest="spec",
            run_id="dagster-run",
        )
        results = dict.fromkeys(MODELS[model].gate_names, True) | gates
        verdict = {
            "format_version": 1,
            "artifact_digest": name,
            "champion_digest": champion.bundle_digest if champion else None,
            "gates": [
                {"name": gate, "passed": passed, "figure": 0.0123, "threshold": 0.01, "explanation": "as measured"}
                for gate, passed in results.items()
            ],
            "metrics": {},
        }
        book.record_verdict(model, version.version, verdict, champion.version if champion else None)
        return version

    def promote(self, version: ModelVersion) -> None:
        """Makes it champion, on its verdict."""
        from assets.models import MODELS
        from ml_platform.registry.promotion import promote

        gates = MODELS[version.model].gate_names
        said: dict[str, Any] = {
            "who": "the graph",
            "reason": "better in shadow",
            "read_digest": lambda v: v.bundle_digest,
        }
        promote(self.ledger, version.model, version.version, gates=gates, today=MONDAY, **said)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path / "home"))
    settings = Settings.from_env()
    settings.home.mkdir()
    os.makedirs(tmp_path / "dagster")
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        house = House(settings, instance)
        house.clock.move_to(MONDAY)
        yield house
