"""The files of a bundle as bytes: the same content gives the same bytes."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ml_platform.training.job import TrainingJob
from ml_platform.training.trainers import Fitted


def base_report(job: TrainingJob, fitted: Fitted, rows: Mapping[str, Any]) -> dict[str, Any]:
    """What the report of every bundle says; `rows`: counts by role."""
    return {
        "model": job.model,
        "job_digest": job.digest(),
        "spec_digest": job.spec_digest,
        "data_digest": job.data_digest,
        "trainer": {"kind": job.trainer.kind, "library": fitted.library, "params": dict(job.trainer.params)},
        "seed": job.seed,
        "threads": job.threads,
        "rounds": fitted.rounds,
        "rounds_trained": len(next(iter(fitted.curves.values()))),
        "rows": rows,
        "rehearsal": {"rounds": fitted.rehearsal.rounds, "margins_sha256": fitted.rehearsal.margins_sha256},
    }


def json_bytes(content: Mapping[str, Any], sort_keys: bool = True) -> bytes:
    """Raises ValueError for NaN and infinities."""
    return (json.dumps(content, indent=1, sort_keys=sort_keys, allow_nan=False) + "\n").encode()


def parquet_bytes(columns: Mapping[str, np.ndarray]) -> bytes:
    """One Parquet file of columns of the same length."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), sink, compression="zstd")
    return sink.getvalue().to_pybytes()
