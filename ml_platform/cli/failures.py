"""Why a step failed, said as the platform says errors: what, where, next step."""

import re
from dataclasses import dataclass

from dagster import DagsterEvent

from ml_platform.errors import PlatformError

_PLATFORM_ERROR = re.compile(
    r"(?:[\w.]+: )?(?P<what>.*?)(?: \[(?P<where>[^\[\]]*)\])?(?: Next: (?P<next>.*))?", re.DOTALL
)


class RunFailed(PlatformError):
    """A run did not succeed."""


@dataclass(frozen=True)
class StepFailure:
    """`kind` is the class of the error the step raised; what, where and next are read back from its text."""

    step: str
    kind: str
    what: str
    where: str
    next_step: str

    @classmethod
    def from_event(cls, event: DagsterEvent) -> "StepFailure":
        """Looks through Dagster's own wrapping, no further: what the step raised is what is said."""
        data = event.step_failure_data
        step, said = str(event.step_key), data.user_failure_data
        if said and said.description:
            return cls.from_text(step, said.label, said.description)
        error = data.error
        if error and error.cls_name == "DagsterExecutionStepExecutionError" and error.cause:
            error = error.cause
        if error is None:
            return cls.from_text(step, "Failure", event.message or "no cause was recorded")
        return cls.from_text(step, error.cls_name or "Error", error.message)

    @classmethod
    def from_text(cls, step: str, kind: str, text: str) -> "StepFailure":
        """Reads `module.Class: what [where] Next: next`, the text of a PlatformError; other texts are all `what`."""
        found = _PLATFORM_ERROR.fullmatch(text.strip())
        assert found, "every text matches"
        return cls(step, kind, found["what"].strip(), (found["where"] or "").strip(), (found["next"] or "").strip())

    def error(self, run_id: str) -> RunFailed:
        """The same as an error for the panel."""
        place = f"{self.step} · {self.where}" if self.where else self.step
        remedy = (
            self.next_step or f"see the run's log in `mlp ui` (run {run_id[:8]}), mend the cause, and `mlp run` again"
        )
        return RunFailed(f"{self.kind}: {self.what}", where=place, next_step=remedy)
