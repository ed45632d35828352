"""What the worker makes of a job whose trainer gives rankers: lists of products, and their bundle's files.

The lists of the role evaluate are made by the model as read back from its own bytes. `reference.json` sketches the
scalar features of the training queries and the score of each one's first product (`score`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ml_platform.monitoring.sketch import SCORE, build_sketch
from ml_platform.ranking.baskets import NOTHING, Catalogue, Queries
from ml_platform.registry import bundles
from ml_platform.training.data import read_job_catalogues, read_role_queries, read_scalars
from ml_platform.training.files import base_report, json_bytes, parquet_bytes
from ml_platform.training.job import TrainingFailed, TrainingJob
from ml_platform.training.reporting import Reporter
from ml_platform.training.spec import Role
from ml_platform.training.trainers import FittedRanker, Rehearsal, ranker_module

LIST_LENGTH = 20
_LEARNING: tuple[Role, ...] = ("train", "stop")


def train(job: TrainingJob, reporter: Reporter) -> dict[str, bytes] | None:
    """Every file of the trained bundle; None in a process that does not write it. Raises TrainingFailed."""
    catalogues = read_catalogues_of(job)
    queries = read_queries_of(job, (*_LEARNING, "evaluate"))
    reporter.log(f"{job.model}: " + " · ".join(f"{role} {len(mine):,} queries" for role, mine in queries.items()))
    learning: dict[Role, Queries] = {role: queries[role] for role in _LEARNING}
    fitted = ranker_module(job.trainer.kind).fit(job, learning, catalogues, reporter)
    return None if fitted is None else _files(job, queries, catalogues, fitted)


def rehearse(job: TrainingJob, reporter: Reporter) -> Rehearsal | None:
    """Trains only the first steps; None in a process that does not write the outcome. Raises TrainingFailed."""
    return ranker_module(job.trainer.kind).rehearse(
        job, read_queries_of(job, _LEARNING), read_catalogues_of(job), reporter
    )


def rank_by_monday(
    kind: str, fitted: FittedRanker, queries: Queries, catalogues: Mapping[int, Catalogue], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(products int64 [n, k], scores float32 [n, k]) of queries of several Mondays."""
    products = np.full((len(queries), k), NOTHING, np.int64)
    scores = np.zeros((len(queries), k), np.float32)
    for monday, rows in _mondays(queries):
        products[rows], scores[rows] = ranker_module(kind).rank(
            fitted.model, fitted.vocabulary, queries.take(rows), catalogues[monday], k
        )
    return products, scores


def read_queries_of(job: TrainingJob, roles: Sequence[Role]) -> dict[Role, Queries]:
    """The job's queries by role. Raises TrainingFailed for an empty role."""
    return {role: read_role_queries(Path(job.data_path), role) for role in roles}


def read_catalogues_of(job: TrainingJob) -> Mapping[int, Catalogue]:
    """The job's catalogues by Monday. Raises TrainingFailed when it names none."""
    if job.catalogue_path is None:
        raise TrainingFailed(
            "the job names no catalogue, and its trainer ranks products",
            where=job.model,
            next_step="write the job with the training set's catalogue",
        )
    return read_job_catalogues(Path(job.catalogue_path))


def _mondays(queries: Queries) -> Iterator[tuple[int, np.ndarray]]:
    for monday in np.unique(queries.as_ofs):
        yield int(monday), np.flatnonzero(queries.as_ofs == monday)


def _files(
    job: TrainingJob, queries: Mapping[Role, Queries], catalogues: Mapping[int, Catalogue], fitted: FittedRanker
) -> dict[str, bytes]:
    """Nothing here may depend on the clock, on paths or on the order of a dict from outside."""
    products, scores = rank_by_monday(job.trainer.kind, fitted, queries["evaluate"], catalogues, LIST_LENGTH)
    if not np.isfinite(scores).all():
        raise TrainingFailed("the model gives scores that are not numbers", where=job.model)
    _, learnt = rank_by_monday(job.trainer.kind, fitted, queries["train"], catalogues, 1)
    seen = {**read_scalars(Path(job.data_path), "train", job.features), SCORE: learnt[:, 0]}
    best = fitted.rounds - 1
    rows = {role: {"rows": len(mine), "targets": len(mine.targets)} for role, mine in queries.items()}
    report = {
        **base_report(job, fitted, rows),
        "log_loss": {role: fitted.curves[f"{role}_log_loss"][best] for role in ("train", "stop")},
        "stop_recall_at_10": fitted.curves["stop_recall_at_10"][best],
        "device": job.device,
    }
    rounds = np.arange(1, report["rounds_trained"] + 1, dtype=np.int32)
    row, rank = np.nonzero(products != NOTHING)
    gain = dict(sorted(fitted.importance.items(), key=lambda item: -item[1]))
    return {
        bundles.WEIGHTS: fitted.model,
        bundles.VOCABULARY: json_bytes(fitted.vocabulary),
        bundles.FEATURES: json_bytes({"features": list(job.features)}),
        bundles.CURVES: parquet_bytes(
            {"round": rounds, **{name: np.array(curve) for name, curve in fitted.curves.items()}}
        ),
        bundles.IMPORTANCE: json_bytes({"gain": gain}, sort_keys=False),
        bundles.EVALUATION_LISTS: parquet_bytes(
            {
                "row": row.astype(np.int32),
                "rank": (rank + 1).astype(np.int32),
                "product_id": products[row, rank],
                "score": scores[row, rank],
            }
        ),
        bundles.REFERENCE: json_bytes(build_sketch(seen).to_json()),
        bundles.REPORT: json_bytes(report),
    }
