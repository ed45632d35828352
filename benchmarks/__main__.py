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
FORMAT_VERSION = 1
MEASURES = {
    "definitions": "benchmarks.definitions_load",
    "point_in_time": "benchmarks.point_in_time",
    "features": "benchmarks.feature_models",
    "orchestration": "benchmarks.orchestration",
    "drift": "benchmarks.drift",
    "sensor_tick": "benchmarks.sensor_tick",
}


def main() -> None:
    """Runs the measures, one after another, and says whether every goal was met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"of: {', '.join(MEASURES)} (default: all)")
    chosen = parser.parse_args().measures or list(MEASURES)
    unknown = [name for name in chosen if name not in MEASURES]
    if unknown:
        parser.error(f"unknown measure: {', '.join(unknown)}; there are: {', '.join(MEASURES)}")
    for name in chosen:
        print(f"measuring {name} …", flush=True)
        rows = [row.to_json() for row in import_module(MEASURES[name]).measure()]
        for row in rows:
            print(f"  {row['name']}: {_cells(row)[1:]}", flush=True)
        _keep(name, {"measured_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "machine": _machine(), "rows": rows})
    results = json.loads(RESULTS.read_text())
    _fill_in(README, table(results))
    missed = [row["name"] for row in _all_rows(results) if row["met"] is False]
    print(f"goals missed: {'; '.join(missed)}" if missed else "every goal is met")


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table, in the order of MEASURES."""
    lines = ["| | measured | against | ratio | goal |", "|---|---:|---|---:|---:|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in _all_rows(results)]
    notes = [f"{row['name'].lstrip('… ')}: {row['note']}." for row in _all_rows(results) if row["note"]]
    measured = [results["measures"][name] for name in MEASURES if name in results["measures"]]
    stamps = sorted({each["measured_at"][:10] for each in measured})
    machines = sorted({each["machine"] for each in measured})
    return "\n".join([*lines, "", f"Measured {', '.join(stamps)} on {'; '.join(machines)}. " + " ".join(notes)])


def _keep(name: str, measured: dict[str, Any]) -> None:
    results = (
        json.loads(RESULTS.read_text()) if RESULTS.exists() else {"format_version": FORMAT_VERSION, "measures": {}}
    )
    results["measures"][name] = measured
    aside = RESULTS.with_suffix(".aside")
    aside.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    aside.replace(RESULTS)


def _all_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for name in MEASURES if name in results["measures"] for row in results["measures"][name]["rows"]]


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
