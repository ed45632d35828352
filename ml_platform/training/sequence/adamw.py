"""AdamW in torch's own functional form.

`torch.optim.AdamW` is the same kernel, but imports torch's compiler when it is made and at its first step: seconds in
every worker, which compiles nothing on a CPU.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETAS, EPSILON = (0.9, 0.999), 1e-8
Moments = dict[str, Tensor]
"""Of one parameter: `step`, and the running means `exp_avg` and `exp_avg_sq`."""


class AdamW:
    """Steps of the parameters that have a gradient. `moments`: by the parameter's number, once it has had one."""

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.moments: dict[int, Moments] = {}

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        due = {number: each for number, each in enumerate(self.parameters) if each.grad is not None}
        self.moments |= {number: _unmoved(each) for number, each in due.items() if number not in self.moments}
        moments = [self.moments[number] for number in due]
        adamw(
            list(due.values()),
            [each.grad for each in due.values() if each.grad is not None],
            [each["exp_avg"] for each in moments],
            [each["exp_avg_sq"] for each in moments],
            [],
            [each["step"] for each in moments],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    def restore(self, moments: Mapping[int, Moments]) -> None:
        """Goes on from the moments of another one."""
        self.moments = dict(moments)


def _unmoved(parameter: nn.Parameter) -> Moments:
    step = torch.zeros((), dtype=torch.float32, device=parameter.device)
    return {"step": step, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
