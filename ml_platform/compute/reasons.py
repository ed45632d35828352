"""Why a training's pod did not start, or died: read from the pod's status, as typed errors a person can act on.

A pod is the API's JSON (a mapping in camelCase), None when it is gone. What the cluster did to the pod
(`NodeTakenAway`) may be tried again, since the worker resumes; what the pod did to itself (out of memory, over a limit,
a failed worker) may not: the same would happen again.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_platform.errors import PlatformError
from ml_platform.training.job import STOPPED, TrainingFailed

Pod = Mapping[str, Any]

IMAGE_TROUBLE = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError")
IMAGE_NEVER = ("InvalidImageName", "ErrImageNeverPull")
TAKEN_AWAY = ("Evicted", "Preempting", "NodeShutdown", "Shutdown", "Terminated", "NodeLost", "NodeAffinity")
_EXCEEDED = re.compile(r"exceed(s|ed)\b")
_INSUFFICIENT = re.compile(r"Insufficient ([\w./\-]*\w)")


class PodDied(PlatformError):
    """A training's pod ended, or never started, and there is no model."""


class NodeTakenAway(PodDied):
    """Evicted, preempted, or lost with its node: nothing the training did, so it may start again elsewhere."""


class PodOutOfMemory(PodDied):
    """The training wanted more memory than its declaration gives it."""


class OverLimit(PodDied):
    """The training wrote more than a limit of its pod allows."""


class DeadlinePassed(PodDied):
    """The pod ran longer than its declaration allows."""


class ImageUnavailable(PodDied):
    """The worker's image cannot be pulled."""


class Unschedulable(PodDied):
    """No node has what the training asks for."""


class NotStarted(PodDied):
    """The pod has a node and an image, and its container does not start."""


def has_started(pod: Pod) -> bool:
    """Whether the container runs or ran, or will never."""
    return phase_of(pod) in ("Succeeded", "Failed") or any(name in _state(pod) for name in ("running", "terminated"))


def is_over(pod: Pod) -> bool:
    """Whether no container of it will say anything any more."""
    return phase_of(pod) in ("Succeeded", "Failed") or "terminated" in _state(pod)


def phase_of(pod: Pod) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    return pod.get("status", {}).get("phase", "Pending")


def obstacle_of(pod: Pod) -> PodDied | None:
    """What keeps a pod from starting just now; None when it is on its way."""
    waiting = _state(pod).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in (*IMAGE_TROUBLE, *IMAGE_NEVER):
        return ImageUnavailable(
            f"{reason}: {_said(message, 'the image cannot be pulled')}",
            where=_image(pod),
            next_step="check the image's name and that the namespace may pull it, then train again",
        )
    if reason not in ("", "ContainerCreating", "PodInitializing"):
        return NotStarted(
            f"{reason}: {_said(message, 'the container does not start')}",
            where=_name(pod),
            next_step="check the secrets, the claim and the command that the pod names, then train again",
        )
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") != "False":
        return None
    message = scheduled.get("message", "")
    missing = missing_resources(message)
    lacking = f"no node has enough {', '.join(missing)}" if missing else "no node fits"
    return Unschedulable(
        f"{lacking} ({_said(message, scheduled.get('reason', 'Unschedulable'))})",
        where=_name(pod),
        next_step="add such a node, free one, or ask for less in the model's resources",
    )


def is_hopeless(obstacle: PodDied) -> bool:
    """Whether waiting cannot help: the name of the image itself is wrong."""
    return isinstance(obstacle, ImageUnavailable) and obstacle.what.startswith(IMAGE_NEVER)


def missing_resources(message: str) -> tuple[str, ...]:
    """The resources that the scheduler calls insufficient, in its order, each once."""
    return tuple(dict.fromkeys(_INSUFFICIENT.findall(message.partition(" preemption:")[0])))


def death_of(
    pod: Pod | None, last_seen: Pod, messages: Iterable[Mapping[str, Any]], tail: Sequence[str]
) -> PlatformError:
    """Why a pod that is over, or gone, left no model.

    `messages` and `tail`: what the worker reported and the last lines it wrote. Its own word for the cause wins, unless
    the cluster killed it meanwhile.
    """
    known = pod or last_seen
    status, ended = known.get("status", {}), _state(known).get("terminated", {})
    reason, message = status.get("reason", ""), status.get("message", "")
    disruption = _condition(known, "DisruptionTarget")
    if ended.get("reason") == "OOMKilled":
        limit = _container(known).get("resources", {}).get("limits", {}).get("memory", "its limit")
        return PodOutOfMemory(
            f"OOMKilled: the worker used more than {limit} of memory",
            where=_name(known),
            next_step="raise memory_gib in the model's resources, or train on less; it is not tried again as it is",
        )
    if reason == "Evicted" and _EXCEEDED.search(message):
        return OverLimit(
            f"Evicted: {message}",
            where=_name(known),
            next_step="raise the limit in the model's resources, or write less; it is not tried again as it is",
        )
    if reason == "DeadlineExceeded":
        return DeadlinePassed(
            f"DeadlineExceeded: {_said(message, 'the pod ran too long')}",
            where=_name(known),
            next_step="raise deadline_seconds in the model's resources, or train on less",
        )
    if reason in TAKEN_AWAY or disruption.get("status") == "True" or pod is None:
        said = [reason or disruption.get("reason") or "Deleted", message or disruption.get("message")]
        return NodeTakenAway(
            ": ".join(filter(None, said)),
            where=_name(known),
            next_step="look at the node and at the priority class in the model's resources",
        )
    reported = reported_failure(messages)
    if ended.get("exitCode") == STOPPED:  # nobody but the cluster tells it so
        what = reported.what if reported else "told to stop (SIGTERM)"
        return NodeTakenAway(what, where=_name(known), next_step="look at what deletes pods on that node")
    return reported or TrainingFailed(
        " ".join([f"the worker exited with {ended.get('exitCode', 'no status')}", _last_words(tail)]).strip(),
        where=_name(known),
        next_step="see the worker's lines in the run's log",
    )


def reported_failure(messages: Iterable[Mapping[str, Any]]) -> TrainingFailed | None:
    """The cause as the worker reported it before it exited; None when it said nothing."""
    for message in messages:
        if message.get("kind") == "failure":
            own = message["error"] == TrainingFailed.__name__
            what = message["what"] if own else f"{message['error']}: {message['what']}"
            return TrainingFailed(what, where=message["where"], next_step=message["next_step"])
    return None


def _last_words(tail: Sequence[str]) -> str:
    return f"after: {' / '.join(tail)}" if tail else ""


def _said(message: str, otherwise: str) -> str:
    return message.partition(" preemption:")[0].strip().rstrip(".") or otherwise


def _condition(pod: Pod, kind: str) -> Mapping[str, str]:
    found = (each for each in pod.get("status", {}).get("conditions", ()) if each["type"] == kind)
    return next(found, {})


def _state(pod: Pod) -> Mapping[str, Any]:
    """The state of the worker's container: one of waiting, running, terminated; empty before a node has the pod."""
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return statuses[0]["state"] if statuses else {}


def _container(pod: Pod) -> Mapping[str, Any]:
    return pod["spec"]["containers"][0]


def _image(pod: Pod) -> str:
    return _container(pod)["image"]


def _name(pod: Pod) -> str:
    """The pod, and the node where it has one."""
    node = pod["spec"].get("nodeName")
    return f"pod {pod['metadata']['name']}" + (f" on {node}" if node else "")
