"""What the commands say: help, tables, JSON, and errors as panels."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from ml_platform.cli import app, output
from ml_platform.cli.doctor import Finding, disk, home, packages
from ml_platform.cli.models import metric_rows
from ml_platform.cli.ui import command, port_is_free
from ml_platform.registry.ledger import Ledger
from ml_platform.settings import REPOSITORY, Settings

MODEL = "tiny_model"
COMMANDS = ("land", "run", "models", "history", "promote", "rollback", "doctor", "demo", "ui")


@pytest.fixture
def home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ML_PLATFORM_LEDGER_URL", "ML_PLATFORM_PROFILE", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def ledger(home_folder: Path) -> Ledger:
    """A ledger in which version 1 of one model is champion."""
    ledger = Ledger(Settings.from_env().ledger_url)
    version = ledger.register(
        MODEL,
        bundle_digest="b" * 64,
        bundle_uri="nowhere",
        cutoff=date(2018, 1, 1),
        training_set_digest="t" * 64,
        spec_digest="s" * 64,
        run_id="run",
    )
    verdict = {
        "artifact_digest": "b" * 64,
        "champion_digest": None,
        "evaluation_digest": "e" * 64,
        "gates": [{"name": "calibrated", "passed": True}],
        "metrics": {"candidate": {"auc": 0.91, "ece": None}, "rfm": {"auc": 0.85, "ece": 0.01}},
        "passed": True,
    }
    recorded = ledger.record_verdict(MODEL, version.version, verdict, None)
    ledger.append(MODEL, "promote", 1, None, who="ada", reason="it passed", evidence_digest=recorded.digest)
    return ledger


def invoke(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `mlp`."""
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), *[(name,) for name in COMMANDS], ("features", "get")],
)
def test_every_command_teaches(arguments: tuple[str, ...]) -> None:
    code, said, _ = invoke(*arguments, "--help")
    assert code == 0
    assert "Usage" in said


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from ml_platform.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print([name for name in ('dagster', 'polars', 'duckdb', 'sqlalchemy', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout.strip() == "[]"


def test_models_shows_the_champion_beside_its_baselines(ledger: Ledger) -> None:
    code, said, _ = invoke("models")
    assert code == 0
    assert MODEL in said and "0.9100" in said and "rfm" in said and "0.8500" in said


def test_models_as_json_has_the_champions_metrics(ledger: Ledger) -> None:
    code, said, _ = invoke("models", "--json")
    (row,) = json.loads(said)
    assert (code, row["model"], row["champion"], row["metrics"]["candidate"]["auc"]) == (0, MODEL, 1, 0.91)


def test_history_says_who_and_why(ledger: Ledger) -> None:
    code, said, _ = invoke("history", MODEL)
    assert code == 0
    assert "ada" in said and "it passed" in said
    (entry,) = json.loads(invoke("history", MODEL, "--json")[1])
    assert (entry["action"], entry["to_version"]) == ("promote", 1)


def test_an_unknown_model_is_a_panel_with_the_nearest_name(ledger: Ledger) -> None:
    code, said, complained = invoke("history", "tiny_modle")
    assert (code, said) == (1, "")
    assert "UnknownModel" in complained and f"did you mean {MODEL}?" in complained
    assert "Traceback" not in complained


def test_before_anything_was_trained_models_says_what_to_do(home_folder: Path) -> None:
    assert "mlp demo" in invoke("models")[1]
    assert json.loads(invoke("models", "--json")[1]) == []


def test_a_waiver_without_a_last_day_is_refused(home_folder: Path) -> None:
    code, _, complained = invoke("promote", MODEL, "1", "--reason", "why", "--waive", "calibrated")
    assert code == 1
    assert "--until YYYY-MM-DD" in complained


@pytest.mark.parametrize(("until", "says"), [("2017-13-01", "is not a day"), ("2019-01-01", "ends on 2018-01-07")])
def test_a_day_that_cannot_land_is_refused(home_folder: Path, until: str, says: str) -> None:
    code, _, complained = invoke("land", "--until", until)
    assert code == 1
    assert says in complained


def test_an_unknown_profile_is_a_panel(home_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PLATFORM_PROFILE", "moon")
    code, _, complained = invoke("models")
    assert code == 1
    assert "unknown profile" in complained and "set it to one of" in complained


def test_doctor_names_every_part_and_how_to_begin(home_folder: Path) -> None:
    _, said, _ = invoke("doctor", "--json")
    findings = {finding["subject"]: finding for finding in json.loads(said)}
    assert list(findings)[:2] == ["python", "packages"]
    assert findings["landing"]["mend"].startswith("mlp land")
    assert findings["ledger"]["ok"] is None
    assert not (home_folder / "ledger.db").exists(), "the doctor changes nothing"


def test_doctor_names_a_package_that_is_not_as_locked(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("typer==0.0.1\nno-such-package==1\npolars[x]==0.1 ; python_version > '3'\n")
    finding = packages(lock)
    assert finding.ok is False
    assert "no-such-package missing" in finding.says and "typer" in finding.says and "polars" in finding.says
    assert finding.mend


def test_doctor_says_where_the_home_cannot_be_made(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert home(blocked / "home") == Finding("home", False, f"{blocked} cannot be written", home(blocked / "home").mend)
    assert disk(tmp_path).subject == "disk"


def test_an_undefined_metric_is_a_dash() -> None:
    (row,) = metric_rows({"candidate": {"auc": None}})
    assert row["auc"] == "–"


def test_a_cell_is_never_read_as_markup() -> None:
    assert output.cell("[red]x") == r"\[red]x"
    assert (output.cell(1234567), output.cell(0.12345), output.cell(["a", "b"])) == ("1,234,567", "0.1235", "a, b")


def test_the_ui_listens_on_this_machine_only() -> None:
    said = command(3123)
    assert said[said.index("--host") + 1] == "127.0.0.1"
    assert port_is_free(1)


def test_labels_of_ones_own_get_the_features_known_then(home_folder: Path) -> None:
    from assets.feature_tables import FEATURE_TABLES
    from ml_platform.features.store import FeatureStore

    store = FeatureStore(Settings.from_env().lake, FEATURE_TABLES)
    contract = FEATURE_TABLES["household"]
    name = contract.columns[-1].name
    rows = {"household_id": [1, 2], "as_of": [date(2017, 11, 27)] * 2, name: [5, 6]}
    blank = {column: [None, None] for column in contract.schema()}
    frame = pl.DataFrame({**blank, **rows}).cast(contract.schema())  # type: ignore[arg-type]
    table = store.table("household")
    table.publish(table.stage("2017-11-27", frame))
    labels, out = home_folder / "mine.csv", home_folder / "out.parquet"
    labels.write_text("household_id,as_of\n2,2017-11-29\n1,2017-12-25\n")
    asked = ["features", "get", "--labels", str(labels), "--out", str(out), "--features"]
    code, said, complained = invoke(*asked, f"household:{name}")
    assert code == 0, complained
    assert pl.read_parquet(out)[f"household__{name}"].to_list() == [6, None]
    assert "1 of 2 rows" in said
    code, _, complained = invoke(*asked, "household:no_such_column")
    assert code == 1
    assert "no_such_column" in complained


def test_labels_that_cannot_be_read_are_a_panel(home_folder: Path) -> None:
    code, _, complained = invoke("features", "get", "--labels", "none.parquet", "--features", "a:b", "--out", "x")
    assert code == 1
    assert "UnreadableLabels" in complained
