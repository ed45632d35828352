"""From the first landed file to a champion and its predictions, by the commands that people type, in one process:
`python -m ml_platform_tests.snowflake.walk MODEL`, in the home and on the warehouse that the environment says.

What the environment declares as external is there before the first run. A slice of households is too small for every
gate, so a person lets the version past those that it failed.
"""

import sys

from typer.testing import CliRunner

from ml_platform.calendar import CLOSING_DAY, OPENING_DAY
from ml_platform.cli import app
from ml_platform.landing.external import read_external_tables
from ml_platform.landing.files import LandingFolder
from ml_platform.registry.ledger import Ledger
from ml_platform.settings import Settings
from ml_platform.warehouse import open_warehouse
from ml_platform_tests.landing.company import keep_elsewhere

LAST_DAY, CUTOFF = "2017-12-31", "2018-01-01"


def mlp(*arguments: str) -> None:
    done = CliRunner().invoke(app, arguments)
    if done.exit_code:
        sys.exit(f"mlp {' '.join(arguments)}\n{done.output}\n{done.exception!r}")


def have_already(settings: Settings) -> None:
    for external in read_external_tables(settings.external_tables).values():
        landed = LandingFolder(settings.landing).deliveries(external.table.name, OPENING_DAY, CLOSING_DAY)
        with open_warehouse(settings).session("the company's own") as session:
            keep_elsewhere(session, external, landed)


def main(model: str) -> None:
    mlp("land", "--until", LAST_DAY)
    have_already(Settings.from_env())
    mlp("run", f'+key:"models/{model}/champion"')
    ledger = Ledger(Settings.from_env().ledger_url)
    if ledger.champion(model) is None:
        verdict = ledger.verdict(model, 1)
        assert verdict is not None, "nothing was evaluated"
        waivers = [word for gate, passed in verdict.gates.items() if not passed for word in ("--waive", gate)]
        mlp("promote", model, "1", "--reason", "a slice", "--who", "a tester", *waivers, "--until", "2099-12-31")
    mlp("run", "--force", "--partition", CUTOFF, f'key:"predictions/{model}"')


if __name__ == "__main__":
    main(sys.argv[1])
