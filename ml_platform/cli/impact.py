"""`mlp impact`: what the working tree changes, as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ml_platform.catalog.revisions import changed_files, resolve
from ml_platform.cli import output
from ml_platform.settings import REPOSITORY, Settings

if TYPE_CHECKING:
    from ml_platform.catalog.graph import Kind
    from ml_platform.catalog.impact import Reached

SHOWN: "Mapping[str, Sequence[Kind]]" = {
    "features": ("features",),
    "models": ("model",),
    "predictions": ("predictions", "embeddings"),
}


def show_impact(base: str, as_json: bool) -> None:
    """Prints the report; without a changed file in no time. Raises GitRefused."""
    revision = resolve(REPOSITORY, base)
    files = changed_files(REPOSITORY, revision)
    if not files and not as_json:
        print(f"Nothing differs from {base} ({revision.commit[:9]}).")
        return

    from assets.columns import declared
    from assets.models import MODELS
    from ml_platform.catalog.build import build_lineage
    from ml_platform.catalog.champions import read_champions
    from ml_platform.catalog.impact import dbt_files, find_impact, reached
    from ml_platform.catalog.impact_text import markdown

    stated = declared()
    lineage = build_lineage(stated, read_champions(Settings.from_env().ledger_url, MODELS))
    found = find_impact(lineage, revision, files, dbt_files(stated.project))
    if not as_json:
        print(markdown(lineage, found), end="")
        return
    rows = {name: [_row(each) for each in reached(lineage, found, *kinds)] for name, kinds in SHOWN.items()}
    changed = [{"path": file.path, "what": file.what} for file in files]
    shown = {"base": asdict(revision), "touched": found.touched, "suspected": found.suspected, "quiet": found.quiet}
    output.show_json({**shown, "files": changed, **rows})


def _row(each: "Reached") -> dict[str, Any]:
    said = {"node": each.node.id, "certain": each.certain, "columns": each.columns, "because": each.because}
    return {**said, "owner": each.node.owner}
