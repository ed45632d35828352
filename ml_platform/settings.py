"""Where this deployment keeps its things: read once from the environment, frozen, handed down.

`ML_PLATFORM_PROFILE` picks a column of the table of places, and each of its cells can be overridden alone
(`ML_PLATFORM_WAREHOUSE`, `ML_PLATFORM_COMPUTE`, `ML_PLATFORM_STEPS`); `ML_PLATFORM_HOME` is the folder under which
everything local lives, so two homes never meet. No secret is part of the text of a `Settings`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ml_platform.errors import ConfigurationError
from ml_platform.snowflake_account import SnowflakeAccount

REPOSITORY = Path(__file__).resolve().parent.parent
PROFILES: Mapping[str, Mapping[str, str]] = {
    "local": {"warehouse": "duckdb", "compute": "local", "steps": "forked"},
    "kubernetes": {"warehouse": "duckdb", "compute": "kubernetes", "steps": "kubernetes"},
    "snowflake": {"warehouse": "snowflake", "compute": "local", "steps": "forked"},
}
WAREHOUSES = ("duckdb", "snowflake")
COMPUTES = ("local", "kubernetes")
STEPS = ("forked", "in_process", "kubernetes")


@dataclass(frozen=True)
class Cluster:
    """Where in Kubernetes training's pods run, and what they share with who starts them.

    `image` is the worker's, `lake_claim` the volume claim that pods mount at the lake's own path, so that a job file's
    paths hold in every pod. `secrets` are names of secrets whose entries become environment variables of the worker;
    `kubeconfig` is None inside the cluster, where the service account speaks. `owner` is (name, uid) of the pod this
    process runs in: what it starts is deleted with it.
    """

    namespace: str
    image: str
    lake_claim: str
    service_account: str
    secrets: tuple[str, ...]
    kubeconfig: Path | None
    owner: tuple[str, str] | None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Cluster":
        """Raises ConfigurationError with every variable that is missing."""
        demanded = {name: environ.get(f"ML_PLATFORM_K8S_{name}", "") for name in ("NAMESPACE", "IMAGE", "LAKE_CLAIM")}
        missing = [f"ML_PLATFORM_K8S_{name}" for name, value in demanded.items() if not value]
        if missing:
            raise ConfigurationError(
                f"training in Kubernetes needs {', '.join(missing)}",
                where="environment",
                next_step="set them as docs/kubernetes.md says, or ML_PLATFORM_COMPUTE=local",
            )
        owner = (environ.get("ML_PLATFORM_POD_NAME", ""), environ.get("ML_PLATFORM_POD_UID", ""))
        return cls(
            namespace=demanded["NAMESPACE"],
            image=demanded["IMAGE"],
            lake_claim=demanded["LAKE_CLAIM"],
            service_account=environ.get("ML_PLATFORM_K8S_SERVICE_ACCOUNT") or "default",
            secrets=tuple(environ.get("ML_PLATFORM_K8S_SECRETS", "").replace(",", " ").split()),
            kubeconfig=Path(environ["KUBECONFIG"]).expanduser() if environ.get("KUBECONFIG") else None,
            owner=owner if all(owner) else None,
        )


@dataclass(frozen=True)
class Settings:
    """Paths are absolute. `households` keeps only a stable slice of that many households of the replayed data.

    `external_tables`: the file that declares raw tables which the warehouse has already, None where all of them land.
    `warehouse`: the engine that holds rows and features; `snowflake` says which account, None when it is not Snowflake.
    `compute`: where models are trained; `cluster` says where in Kubernetes, None when that is not there. `steps`:
    whether a run's steps are processes of their own, forked, stay in the run's process (faster), or are pods.
    """

    profile: str
    home: Path
    tracking_uri: str
    ledger_url: str
    alerts_url: str
    households: int | None
    external_tables: Path | None
    warehouse: str
    compute: str
    steps: str
    snowflake: SnowflakeAccount | None
    cluster: Cluster | None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        profile = _one_of(environ, "ML_PLATFORM_PROFILE", tuple(PROFILES), "local")
        warehouse = _one_of(environ, "ML_PLATFORM_WAREHOUSE", WAREHOUSES, PROFILES[profile]["warehouse"])
        compute = _one_of(environ, "ML_PLATFORM_COMPUTE", COMPUTES, PROFILES[profile]["compute"])
        home = Path(environ.get("ML_PLATFORM_HOME") or REPOSITORY / ".home").expanduser().resolve()
        external = environ.get("ML_PLATFORM_EXTERNAL_TABLES")
        return cls(
            profile=profile,
            home=home,
            tracking_uri=environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
            ledger_url=environ.get("ML_PLATFORM_LEDGER_URL") or f"sqlite:///{home / 'ledger.db'}",
            alerts_url=environ.get("ML_PLATFORM_ALERTS_URL") or f"sqlite:///{home / 'alerts.db'}",
            households=_whole_number(environ, "ML_PLATFORM_HOUSEHOLDS"),
            external_tables=Path(external).expanduser() if external else None,
            warehouse=warehouse,
            compute=compute,
            steps=_one_of(environ, "ML_PLATFORM_STEPS", STEPS, PROFILES[profile]["steps"]),
            snowflake=SnowflakeAccount.from_env(environ) if warehouse == "snowflake" else None,
            cluster=Cluster.from_env(environ) if compute == "kubernetes" else None,
        )

    @property
    def landing(self) -> Path:
        return self.home / "landing"

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    @property
    def warehouse_file(self) -> Path:
        """The embedded warehouse's file."""
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


def _one_of(environ: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    chosen = environ.get(name) or default
    if chosen not in allowed:
        cell = name.removeprefix("ML_PLATFORM_").lower()
        raise ConfigurationError(
            f"unknown {cell} {chosen!r}", where=name, next_step=f"set it to one of: {', '.join(allowed)}"
        )
    return chosen


def _whole_number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise ConfigurationError(
            f"{text!r} is not a positive whole number", where=name, next_step="unset it or set e.g. 200"
        )
    return int(text)
