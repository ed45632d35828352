"""Invokes dbt several times in one process: `python -m ml_platform_tests.dbt.invoke < invocations.json`.

An invocation is {environ, target, args, vars}; the project is parsed once, as the vars of a run change no node. Exits 1
at the first that fails. A process of its own, because dbt keeps its DuckDB connection for as long as it lives.
"""

import json
import os
import sys

from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest

from ml_platform.settings import REPOSITORY


def main() -> None:
    project = str(REPOSITORY / "dbt_project")
    manifest: Manifest | None = None
    for each in json.load(sys.stdin):
        os.environ.update(each["environ"])
        where = ["--project-dir", project, "--profiles-dir", project, "--target-path", each["target"]]
        if manifest is None:
            parsed = dbtRunner().invoke(["--quiet", "--no-partial-parse", "parse", *where]).result
            assert isinstance(parsed, Manifest)
            manifest = parsed
        done = dbtRunner(manifest=manifest).invoke(
            ["--quiet", *each["args"], *where, "--log-path", each["target"], "--vars", json.dumps(each["vars"])]
        )
        expected = each.get("fails")
        if done.success == (expected is not None) or (expected and expected not in str(done.exception)):
            sys.exit(f"{each['args']} with {each['vars']}: {done.exception or 'ended otherwise than expected'}")


if __name__ == "__main__":
    main()
