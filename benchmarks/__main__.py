"""`python -m benchmarks [MEASURE…]`: measures, writes benchmarks/results.json, and fills in the README's table.

With names only those measures run; the rows of the others stay as they were measured before.
"""

import argparse
import json
import os
import platform
import re
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.rows import REPOSITORY

RESULTS = REPOSITORY / "benchmarks" / "results.json"
README = REPOSITORY / "README.md"
START, END = "<!-- bench:start -->", "<!-- bench:end -->"
MEASURES = {
    "definitions": "benchmarks.definitions_load",
    "point_in_time": "benchmarks.point_in_time",
    "features": "benchmarks.feature_models",
    "orchestration": "benchmarks.orchestration",
    "drift": "benchmarks.drift",
    "sensor_tick": "benchmarks.sensor_tick",
    "pipes_overhead": "benchmarks.pipes_overhead",
    "ranking": "benchmarks.ranking_evaluation",
    "next_basket": "benchmarks.next_basket_epoch",
    "reaction": "benchmarks.reaction",
    "lineage": "benchmarks.lineage",
    "snowflake": "benchmarks.snowflake_transfer",
}


def main() -> None:
    """Runs the measures, one after another, and says whether every goal was met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"of: {', '.join(MEASURES)} (default: all)")
    chosen = parser.parse_args().measures or list(MEASURES)
    unknown = [name for name in chosen if name not in MEASURES]
    if unknown:
        parser.error(f"unknown measure: {', '.join(unknown)}; there are: {', '.join(MEASURES)}")
    results: list[dict[str, Any]] = []
    for name in chosen:
        print(f"measuring {name} …", flush=True)
        stamp = {"measure": name, "measured_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "machine": _machine()}
        rows = [row.to_json() | stamp for row in import_module(MEASURES[name]).measure()]
        for row in rows:
            print(f"  {row['name']}: {_cells(row)[1:]}", flush=True)
        results = _keep(name, rows)
    _fill_in(README, table(results))
    missed = [row["name"] for row in results if row["met"] is False]
    print(f"goals missed: {'; '.join(missed)}" if missed else "every goal is met")


def table(results: list[dict[str, Any]]) -> str:
    """The results as a Markdown table."""
    lines = ["| | measured | against | ratio | goal |", "|---|---:|---|---:|---:|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in results]
    notes = [f"{row['name'].lstrip('… ')}: {row['note']}." for row in results if row["note"]]
    stamps = sorted({row["measured_at"][:10] for row in results})
    machines = sorted({row["machine"] for row in results})
    return "\n".join([*lines, "", f"Measured {', '.join(stamps)} on {'; '.join(machines)}. " + " ".join(notes)])


def _keep(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Puts a measure's rows in the place of its earlier ones, in the order of MEASURES. Returns all rows."""
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    kept = [*(row for row in before if row["measure"] != name and row["measure"] in MEASURES), *rows]
    results = sorted(kept, key=lambda row: list(MEASURES).index(row["measure"]))
    aside = RESULTS.with_suffix(".aside")
    aside.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    aside.replace(RESULTS)
    return results


def _cells(row: dict[str, Any]) -> list[str]:
    against = "" if row["against_figure"] is None else f"{row['against']}: {row['against_figure']:g} {row['unit']}"
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}×"
    unit = row["unit"] if row["ratio"] is None else "×"
    goal = "" if row["goal"] is None else f"{'met' if row['met'] else '**missed**'}: ≤ {row['goal']:g} {unit}"
    return [row["name"], f"{row['figure']:g} {row['unit']}", against, ratio, goal.replace(" ×", "×")]


def _fill_in(readme: Path, text: str) -> None:
    """Replaces what stands between the markers; a README without them stays as it is."""
    if not readme.exists():
        print("no README.md: the table is in benchmarks/results.json only")
        return
    old = readme.read_text()
    block = f"{START}\n{text}\n{END}"
    new, found = re.subn(f"{re.escape(START)}.*{re.escape(END)}", lambda _: block, old, flags=re.DOTALL)
    if not found:
        print(f"README.md has no {START} … {END}: the table is in benchmarks/results.json only")
    if new != old:
        aside = readme.with_suffix(".aside")
        aside.write_text(new)
        aside.replace(readme)


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores {platform.machine()}, Python {platform.python_version()}, DuckDB {version('duckdb')}"


if __name__ == "__main__":
    main()
