"""How a run's steps run: in forked processes, in the run's own, or in pods."""

import dagster as dg

# Steps fork from a server that has loaded the definitions, and what their bodies import, once: a step costs
# milliseconds, not imports. In a process that is warm already (`mlp live`) they stay in it.
PRELOADED = ["ml_platform.definitions", "dbt.cli.main", "duckdb", "polars", "sqlalchemy", "upath"]
FORKED = {"multiprocess": {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": PRELOADED}}}}
IN_PROCESS = {"in_process": {}}


def build_executor(steps: str) -> dg.ExecutorDefinition:
    """How a run's steps run: forked, in its process, or as pods, set up by the run launcher and their own tags."""
    if steps == "kubernetes":
        from dagster_k8s import k8s_job_executor  # costs seconds: only where steps are pods

        # A step's job is deleted with the run's pod, whoever deletes that.
        return k8s_job_executor.configured({"enable_owner_references": True}, name="steps")
    return dg.multi_or_in_process_executor.configured(IN_PROCESS if steps == "in_process" else FORKED, name="steps")
