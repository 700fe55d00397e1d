"""The masked form in recurrent layers: the masks are multiplied once a pass, and are torch.nn.utils.prune's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import slth
from zoo import shake


class Gates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0]


def _masked(steps: int) -> tuple[nn.Module, torch.Tensor]:
    x = torch.randn(2, steps, 3, generator=torch.Generator().manual_seed(0))
    model = shake(Gates(), 0)
    return slth.find_ticket(model, x, base_set_size=6).module("masked"), x


def _multiplications(monkeypatch: pytest.MonkeyPatch, network: nn.Module, x: torch.Tensor) -> int:
    """How often a pass multiplies a parameter by its mask."""
    counted = []
    original = prune.BasePruningMethod.apply_mask

    def counting(method: prune.BasePruningMethod, module: nn.Module) -> torch.Tensor:
        counted.append(module)
        return original(method, module)

    with monkeypatch.context() as patch:
        patch.setattr(prune.BasePruningMethod, "apply_mask", counting)
        network(x)
    return len(counted)


def test_the_masks_are_multiplied_once_a_pass_whatever_the_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {_multiplications(monkeypatch, *_masked(steps)) for steps in (2, 9)}
    assert len(counts) == 1
    # Two layers: the input's gates with a bias, and the hidden state's.
    network, x = _masked(2)
    assert counts == {sum(name.endswith("_mask") for name in network.state_dict())}
    assert _multiplications(monkeypatch, network, x) == counts.pop()


def test_a_pass_reads_the_masks_that_are_there_and_gradients_reach_the_weights() -> None:
    network, x = _masked(5)
    before = network(x)
    assert prune.is_pruned(network)
    hidden = next(module for name, module in network.named_modules() if name.endswith("inner.combine"))
    weight = hidden.weight_orig.requires_grad_()
    network(x).square().sum().backward()
    assert weight.grad is not None
    assert weight.grad[hidden.weight_mask > 0].abs().max() > 0
    assert not weight.grad[hidden.weight_mask == 0].any()
    hidden.weight_mask.zero_()
    assert not torch.equal(network(x), before)


def test_hooks_of_the_user_are_called_at_every_step_as_before() -> None:
    network, x = _masked(5)
    calls = []
    for path, module in network.named_modules():
        if path.endswith("combine"):
            module.register_forward_hook(lambda *_: calls.append(1))
    expected = _masked(5)[0](x)
    assert torch.equal(network(x), expected)
    # The hidden state's at each of 5 steps, the input's once.
    assert len(calls) == 5 + 1


def test_pruning_can_be_made_permanent_by_torch() -> None:
    network, x = _masked(4)
    expected = network(x)
    for module in network.modules():
        for name in [n.removesuffix("_mask") for n, _ in module.named_buffers(recurse=False) if n.endswith("_mask")]:
            prune.remove(module, name)
    assert not prune.is_pruned(network)
    assert torch.equal(network(x), expected)
