"""Loading the definitions: the CPU of importing the whole graph, beside that of importing Dagster alone."""

from benchmarks.rows import Row, run_json, this_python

REPEATS = 3
GOAL = 3.0
CPU_OF_IMPORT = """
import json, os, {module}
spent = os.times()
print(json.dumps(spent.user + spent.system + spent.children_user + spent.children_system))
"""


def measure() -> list[Row]:
    """CPU seconds (user + system, children included) of a fresh interpreter that imports, the best of several."""
    modules = ("ml_platform.definitions", "dagster")
    for module in modules:  # byte code and the dbt manifest are made before anything is timed
        _cpu_seconds(module)
    best = dict.fromkeys(modules, float("inf"))
    for _ in range(REPEATS):
        for module in modules:
            best[module] = min(best[module], _cpu_seconds(module))
    return [
        Row(
            "Loading the definitions",
            best["ml_platform.definitions"],
            "s CPU",
            "`import dagster`",
            best["dagster"],
            GOAL,
            f"fresh interpreters, the best of {REPEATS}",
        )
    ]


def _cpu_seconds(module: str) -> float:
    return run_json(this_python(), ["-c", CPU_OF_IMPORT.format(module=module)])
