"""Muon for weight matrices and convolutions, AdamW for everything else.

Muon (Keller Jordan, 2024): the momentum of a matrix is orthogonalised by five Newton-Schulz steps, so that all its
directions learn at one rate.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrix_OI: Tensor) -> Tensor:
    """The matrix with all singular values near 1, by the quintic Newton-Schulz iteration."""
    a, b, c = _QUINTIC
    x: Tensor = matrix_OI / (matrix_OI.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised per weight (convolutions as matrices of output x rest); decoupled weight decay."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.01) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                seen = parameter.grad.lerp(momentum, group["momentum"]).flatten(1)
                update = orthogonalised(seen)
                # 0.2 sqrt(larger side) gives updates the size of AdamW's, so that one rate serves both.
                size = 0.2 * max(update.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["decay"])
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * size)


def optimizers(model: nn.Module, lr: float, adamw_names: tuple[str, ...]) -> list[torch.optim.Optimizer]:
    """Muon for weights of two or more dimensions, AdamW for vectors and for names that start with `adamw_names`."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and min(parameter.flatten(1).shape) > 1
        (matrices if is_matrix and not name.startswith(adamw_names) else others).append(parameter)
    return [Muon(matrices, lr), torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)]
