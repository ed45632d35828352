"""Every command on the runbooks is one that exists, and those that only look are really run in a home of its own."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ml_platform.alerts.book import AlertBook
from ml_platform.alerts.records import KINDS
from ml_platform.cli import app
from ml_platform.registry.ledger import Ledger
from ml_platform.settings import REPOSITORY, Settings
from ml_platform_tests.alerts.conftest import NOON, late
from ml_platform_tests.registry.conftest import MODEL, Shelf, verdict_on

RUNBOOKS = REPOSITORY / "docs" / "runbooks"
PAGES = sorted(RUNBOOKS.glob("*.md"))
SECTIONS = ["## See the cause", "## What to do", "## How to know it is over"]
PLACEHOLDERS = {"MODEL": MODEL, "VERSION": "1", "ID": "1", "LABELS": "labels.parquet", "JOINED": "joined.parquet"}
READING = ("alerts", "models", "history", "doctor", "slo")  # they change nothing, but that `ack` notes a name


def commands(page: Path) -> list[str]:
    """The lines after `$ ` in the page's console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


EVERY_COMMAND = sorted({command for page in PAGES for command in commands(page)})


def arguments(command: str) -> list[str]:
    """A command's words after `mlp`, with something real in place of MODEL, ID, …"""
    for name, value in PLACEHOLDERS.items():
        command = re.sub(rf"\b{name}\b", value, command)
    program, *words = shlex.split(command)
    assert program == "mlp"
    return words


def parsed(words: list[str]) -> dict[str, Any]:
    """The parameters that a command of these words would be called with; raises a usage error."""
    called: dict[str, Any] = {}
    mlp: Any = typer.main.get_command(app)
    for command in mlp.commands.values():
        _only_note(command, called)
    mlp.main(words, prog_name="mlp", standalone_mode=False)
    return called


def _only_note(command: Any, called: dict[str, Any]) -> None:
    """Puts in place of what a command does, and of what stands below it, that it notes how it was called."""
    command.callback = lambda **given: called.update(given or {"called": True})
    for below in getattr(command, "commands", {}).values():
        _only_note(below, called)


def test_every_kind_of_alert_has_its_page_and_the_index_leads_to_it() -> None:
    assert {page.stem for page in PAGES} == {*KINDS, "README"}
    assert re.findall(r"^\| \[(\w+)\]\(\1\.md\)", (RUNBOOKS / "README.md").read_text(), re.MULTILINE) == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_says_what_it_means_the_cause_the_cure_and_the_end(kind: str) -> None:
    text = (RUNBOOKS / f"{kind}.md").read_text()
    assert text.startswith(f"# {kind}: ") and "**What it means.**" in text
    assert re.findall(r"^## .*", text, re.MULTILINE) == SECTIONS
    assert len(commands(RUNBOOKS / f"{kind}.md")) >= 3
    for name in re.findall(r"\]\(([^)]+)\)", text):
        assert (RUNBOOKS / name).is_file(), f"{kind}.md leads to {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_looks_like_a_command_in_the_text_is_one_too(page: Path) -> None:
    mlp: Any = typer.main.get_command(app)
    assert set(re.findall(r"`mlp ([a-z]+)", page.read_text())) <= set(mlp.commands)


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_every_command_exists_with_these_options(command: str) -> None:
    assert parsed(arguments(command))


def test_a_command_that_does_not_exist_would_be_found() -> None:
    for command in ("mlp alert", "mlp alerts ack", "mlp alerts --loud", "mlp rollback MODEL", "mlp run --partitions x"):
        with pytest.raises(Exception, match=r"No such|Missing"):
            parsed(arguments(command))


@pytest.mark.parametrize("command", [command for command in EVERY_COMMAND if command.startswith("mlp run ")])
def test_every_selection_is_one_that_the_graph_understands(command: str) -> None:
    from dagster import AssetSelection

    given = parsed(arguments(command))
    assert AssetSelection.from_string(given["selection"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with one champion and one broken promise."""
    before, folder = dict(os.environ), tmp_path_factory.mktemp("home")
    for name in ("ML_PLATFORM_ALERTS_URL", "ML_PLATFORM_LEDGER_URL", "ML_PLATFORM_PROFILE", "DAGSTER_HOME"):
        os.environ.pop(name, None)
    os.environ["ML_PLATFORM_HOME"] = str(folder)
    settings = Settings.from_env()
    shelf = Shelf(settings.ledger_url, Ledger(settings.ledger_url))
    shelf.version("one")
    shelf.ledger.record_verdict(MODEL, 1, verdict_on("one") | {"metrics": {"candidate": {"auc": 0.78}}}, None)
    shelf.promote(1)
    AlertBook(settings.alerts_url).observe("freshness", [late()], NOON)
    yield folder
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("command", [c for c in EVERY_COMMAND if arguments(c)[0] in READING])
def test_what_only_looks_can_be_run_as_it_stands_there(home: Path, command: str) -> None:
    done = CliRunner(env={"COLUMNS": "160"}).invoke(app, arguments(command))
    finds_fault = command == "mlp doctor"  # which is what its exit code says
    assert done.exit_code == 0 or (finds_fault and done.exit_code == 1), done.output
    assert done.stdout and "Traceback" not in done.output
