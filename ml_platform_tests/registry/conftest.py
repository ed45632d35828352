"""A real ledger on SQLite with a few versions, and the words to judge and promote them."""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ml_platform.registry.ledger import Ledger
from ml_platform.registry.promotion import Outcome, opponent, promote, rollback
from ml_platform.registry.records import ModelVersion, Waiver

MODEL = "replenishment"
GATES = ("beats_baseline", "calibrated")
TODAY = date(2026, 11, 21)


def same_digest(version: ModelVersion) -> str:
    """Stands for opening the bundle where nothing about it is under test."""
    return version.bundle_digest


@dataclass
class Shelf:
    """A ledger and the shortest words for what the tests do with it."""

    url: str
    ledger: Ledger

    def version(self, name: str) -> ModelVersion:
        return self.ledger.register(
            MODEL,
            bundle_digest=name,
            bundle_uri=f"bundles/{name}",
            cutoff=date(2018, 1, 1),
            training_set_digest=f"training-{name}",
            spec_digest="spec",
            run_id="dagster-run",
        )

    def judge(self, version: ModelVersion, **gates: bool) -> None:
        rival = opponent(self.ledger, version)
        verdict = verdict_on(version.bundle_digest, rival.bundle_digest if rival else None, **gates)
        self.ledger.record_verdict(MODEL, version.version, verdict, rival.version if rival else None)

    def promote(self, version: int, *waivers: Waiver, reason: str = "it is better", **options: Any) -> Outcome:
        options = {"who": "ada", "gates": GATES, "today": TODAY, "read_digest": same_digest} | options
        return promote(self.ledger, MODEL, version, waivers=waivers, reason=reason, **options)

    def rollback(self, to_version: int | None = None, reason: str = "it misbehaves") -> Outcome:
        return rollback(self.ledger, MODEL, who="grace", reason=reason, read_digest=same_digest, to_version=to_version)

    def reign(self, *names: str) -> None:
        """Trains, judges and promotes these in turn."""
        for name in names:
            version = self.version(name)
            self.judge(version)
            self.promote(version.version)

    def champions(self) -> list[int]:
        return [entry.to_version for entry in self.ledger.history(MODEL)]


def verdict_on(artifact_digest: str, champion_digest: str | None = None, **gates: bool) -> dict[str, Any]:
    """A verdict that passes every gate but those given as False."""
    results = dict.fromkeys(GATES, True) | gates
    return {
        "format_version": 1,
        "artifact_digest": artifact_digest,
        "champion_digest": champion_digest,
        "evaluation_digest": "evaluation",
        "gates": [{"name": name, "passed": passed, "figure": 0.5} for name, passed in results.items()],
        "metrics": {"auc": 0.78},
    }


def ticking() -> Callable[[], datetime]:
    """A clock that gains a minute whenever it is read."""
    minutes = count()
    return lambda: datetime(2026, 11, 21, tzinfo=UTC) + timedelta(minutes=next(minutes))


def start_process(function: Callable[..., Any], *arguments: object, kill_at: str = "") -> Any:
    """A process of its own that runs the function. Forked: importing everything anew costs seconds."""

    def run() -> None:
        os.environ["ML_PLATFORM_KILL_AT"] = kill_at
        function(*arguments)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    return Shelf(url, Ledger(url, clock=ticking()))
