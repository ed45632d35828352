"""What one training may use and where it may run: the part of a model's declaration that places its worker.

Invariant: of all this only what decides the artifact is in a model's digest, so moving a training never makes another
model of it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from ml_platform.errors import ConfigurationError


@dataclass(frozen=True)
class Toleration:
    """A node taint that the training's pod puts up with; without a value any value of that key, without an effect
    every effect."""

    key: str
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


@dataclass(frozen=True)
class Resources:
    """What one training may use, and where it may run. Threads (`cpu`) are part of the job: they are part of what makes
    it reproducible. Everything else places it: the model is the same wherever it was trained.

    In Kubernetes they become the worker's pod: `cpu`, `memory_gib` and `gpus` its requests and its limits alike, so
    that it is among the last to be evicted; `shared_memory_gib` its /dev/shm; `gpu_kind` the product name as the GPU
    feature discovery labels nodes (`NVIDIA-H100-80GB-HBM3`); `image` instead of the profile's. It has
    `scheduling_deadline_seconds` to find a node and start, `deadline_seconds` to train, and is started again at most
    `max_preemption_retries` times when the cluster takes its node away.

    A training is one process a GPU; on processors it is `workers` processes, which share its rows and `cpu` alike.
    """

    cpu: int = 2
    deadline_seconds: int = 3600
    memory_gib: float = 4
    shared_memory_gib: float = 0
    gpus: int = 0
    workers: int = 1
    gpu_kind: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class: str = ""
    image: str = ""
    scheduling_deadline_seconds: int = 1800
    max_preemption_retries: int = 3

    def __post_init__(self) -> None:
        for name in ("cpu", "workers", "deadline_seconds", "memory_gib", "scheduling_deadline_seconds"):
            if getattr(self, name) <= 0:
                raise self._wrong(name, f"{getattr(self, name)} is not positive")
        for name in ("shared_memory_gib", "gpus", "max_preemption_retries"):
            if getattr(self, name) < 0:
                raise self._wrong(name, f"{getattr(self, name)} is negative")
        if self.shared_memory_gib > self.memory_gib:
            raise self._wrong("shared_memory_gib", "shared memory counts as memory, and is more than all of it")
        if self.gpu_kind and not self.gpus:
            raise self._wrong("gpu_kind", f"{self.gpu_kind!r} is asked for, but no GPU")
        if self.workers > 1 and self.gpus:
            raise self._wrong("workers", "with GPUs there is one process a GPU, and no other number of them")
        if self.workers > self.cpu:
            raise self._wrong("workers", f"{self.workers} of them share {self.cpu} processors")

    @property
    def processes(self) -> int:
        """How many processes share the training."""
        return self.gpus or self.workers

    def _wrong(self, field_name: str, what: str) -> ConfigurationError:
        return ConfigurationError(what, where=f"Resources.{field_name}", next_step="correct the declaration")

    @classmethod
    def from_json(cls, text: str) -> "Resources":
        """Reads what `to_json` wrote."""
        stated = json.loads(text)
        return cls(**{**stated, "tolerations": tuple(Toleration(**each) for each in stated["tolerations"])})

    def to_json(self) -> str:
        """As one line of JSON: how a declaration travels with the step that trains."""
        return json.dumps(asdict(self), sort_keys=True)

    def decisive(self) -> dict[str, int]:
        """What of it decides the artifact. The deadline does not; its first default is in every digest made so far."""
        return {"cpu": self.cpu, "deadline_seconds": 3600}
