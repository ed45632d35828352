"""The commands that answer from the lineage: why a prediction is what it is, what a change touches, the catalogue."""

from pathlib import Path
from typing import Annotated

import typer

from ml_platform.cli.options import Json, Model

catalog_app = typer.Typer()


@catalog_app.command()
def explain(
    model: Model,
    entity: Annotated[
        str,
        typer.Argument(help="Whom it is about: the entity's values, joined by `/`: `123`, or `123/BEEF`."),
    ],
    week: Annotated[str, typer.Argument(help="The Monday it was made as of, YYYY-MM-DD.")],
    json: Json = False,
) -> None:
    """Account for one prediction: features as read, their source rows' dates, what each adds, the version, the ledger.

    A classifier's margin is told feature by feature (SHAP values), then the steps to the probability; a ranker's scores
    by their parts. Example: `mlp explain category_replenishment 123/BEEF 2018-01-01`.
    """
    from ml_platform.cli.explain import show_explanation

    show_explanation(model, entity, week, json)


@catalog_app.command()
def impact(
    base: Annotated[
        str, typer.Option(metavar="REF", help="The git ref to compare with; of a branch, where it was left.")
    ] = "origin/main",
    json: Json = False,
) -> None:
    """Say what the working tree changes: features, models that need retraining, predictions, owners. As Markdown.

    Example: `mlp impact --base HEAD~1`.
    """
    from ml_platform.cli.impact import show_impact

    show_impact(base, json)


@catalog_app.command("catalog")
def catalog(
    out: Annotated[Path, typer.Option(help="The file to write: one page that needs no server and no network.")] = Path(
        "catalog.html"
    ),
) -> None:
    """Write the catalogue of this home as one HTML page: lineage to click through, features with figures and drift."""
    from ml_platform.cli.site import write_catalog

    write_catalog(out)
