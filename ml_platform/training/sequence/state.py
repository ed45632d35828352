"""The state of a training as files: safetensors for what are numbers on the device, JSON for what is counted."""

import json
from collections.abc import Mapping

from safetensors.torch import load, save
from torch import Tensor

from ml_platform.training.sequence.adamw import Moments
from ml_platform.training.sequence.loop import Loop, Progress

TENSORS, PROGRESS = "state.safetensors", "progress.json"


def state_files(loop: Loop) -> dict[str, bytes]:
    """Everything a training goes on from: weights, the best epoch's weights, optimiser, sums, position and curves."""
    tensors = {f"model.{name}": value for name, value in loop.model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in loop.best.items()}
    for number, moments in loop.optimiser.moments.items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in moments.items()}
    tensors["loss_sum"] = loop.loss_sum
    return {
        TENSORS: save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}),
        PROGRESS: json.dumps(loop.progress.to_json()).encode(),
    }


def restore(loop: Loop, files: Mapping[str, bytes]) -> None:
    """Puts a fresh loop where the files say."""
    tensors = {name: value.to(loop.device) for name, value in load(files[TENSORS]).items()}
    loop.progress = Progress(**json.loads(files[PROGRESS]))
    loop.model.load_state_dict(_under(tensors, "model."))
    loop.best = _under(tensors, "best.")
    loop.loss_sum = tensors["loss_sum"]
    moments: dict[int, Moments] = {}
    for name, value in _under(tensors, "optimiser.").items():
        number, _, moment = name.partition(".")
        moments.setdefault(int(number), {})[moment] = value
    loop.optimiser.restore(moments)


def weights_file(weights: Mapping[str, Tensor]) -> bytes:
    """The weights as safetensors, the same bytes for the same weights."""
    return save({name: weights[name].detach().cpu().contiguous() for name in sorted(weights)})


def read_weights(content: bytes) -> dict[str, Tensor]:
    """What `weights_file` gave."""
    return load(content)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
