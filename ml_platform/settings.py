"""Where this deployment keeps its things: read once from the environment, frozen, handed down.

`ML_PLATFORM_PROFILE` picks a column of the table of places; `ML_PLATFORM_HOME` is the folder under which everything
local lives, so two homes never meet. Secrets are not here: they are read where they are used and never kept.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ml_platform.errors import ConfigurationError

REPOSITORY = Path(__file__).resolve().parent.parent
PROFILES = ("local",)
STEPS = ("forked", "in_process")


@dataclass(frozen=True)
class Settings:
    """Paths are absolute. `households` keeps only a stable slice of that many households of the replayed data.

    `steps`: whether a run's steps are processes of their own, forked, or stay in the run's process (faster).
    """

    profile: str
    home: Path
    tracking_uri: str
    ledger_url: str
    alerts_url: str
    households: int | None
    steps: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        profile = environ.get("ML_PLATFORM_PROFILE", "local")
        if profile not in PROFILES:
            raise ConfigurationError(
                f"unknown profile {profile!r}",
                where="ML_PLATFORM_PROFILE",
                next_step=f"set it to one of: {', '.join(PROFILES)}",
            )
        steps = environ.get("ML_PLATFORM_STEPS", "forked")
        if steps not in STEPS:
            raise ConfigurationError(
                f"unknown way to run steps: {steps!r}",
                where="ML_PLATFORM_STEPS",
                next_step=f"set it to one of: {', '.join(STEPS)}",
            )
        home = Path(environ.get("ML_PLATFORM_HOME") or REPOSITORY / ".home").expanduser().resolve()
        return cls(
            profile=profile,
            home=home,
            tracking_uri=environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
            ledger_url=environ.get("ML_PLATFORM_LEDGER_URL") or f"sqlite:///{home / 'ledger.db'}",
            alerts_url=environ.get("ML_PLATFORM_ALERTS_URL") or f"sqlite:///{home / 'alerts.db'}",
            households=_whole_number(environ, "ML_PLATFORM_HOUSEHOLDS"),
            steps=steps,
        )

    @property
    def landing(self) -> Path:
        return self.home / "landing"

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    @property
    def warehouse(self) -> Path:
        return self.home / "warehouse" / "warehouse.duckdb"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def alerts_log(self) -> Path:
        return self.home / "alerts.jsonl"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.home / "mlflow" / "artifacts"


def _whole_number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise ConfigurationError(
            f"{text!r} is not a positive whole number", where=name, next_step="unset it or set e.g. 200"
        )
    return int(text)
