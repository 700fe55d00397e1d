"""Magnitude pruning: exactly so many weights, the smallest first; and when that leaves those of a teacher."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.utils import prune

from slth.errors import ArgumentError

Scope = Literal["global", "layer"]
SCOPES = ("global", "layer")
Masks = dict[str, torch.Tensor]


def prunable(module: torch.nn.Module, exclude: Iterable[str] = ()) -> dict[str, torch.nn.Parameter]:
    """The weights that are pruned, by name; biases and scales are not.

    These are parameters of two axes or more with weight in their name (``weight``, ``weight_hh_l0``,
    ``in_proj_weight``) that training may change.

    Parameters
    ----------
    module : Module
        With or without masks of :mod:`torch.nn.utils.prune`.
    exclude : iterable of str
        Patterns of names that are left alone.

    Raises
    ------
    ArgumentError
        If nothing is left.
    """
    patterns = tuple(exclude)
    found = {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.dim() >= 2
        and parameter.requires_grad
        and "weight" in name.rpartition(".")[2]
        and not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
    if not found:
        raise ArgumentError("model", "a network without weights to prune", "a parameter of two axes called weight")
    return found


def full_masks(weights: Mapping[str, torch.Tensor]) -> Masks:
    """Masks that keep everything."""
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}


def density(masks: Mapping[str, torch.Tensor]) -> float:
    """The kept fraction of all entries."""
    return sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


def check_amount(amount: float | int) -> None:
    """Refuse what is neither a fraction nor a count.

    Raises
    ------
    ArgumentError
        If a fraction is not between 0 and 1, or a count below 1.
    """
    if isinstance(amount, int) and not isinstance(amount, bool):
        if amount < 1:
            raise ArgumentError("count", str(amount), "at least 1")
    elif isinstance(amount, bool) or not 0.0 < amount < 1.0:
        raise ArgumentError("fraction", f"{amount}", "a fraction between 0 and 1, both excluded", "0.2")


def n_left(n: int, amount: float | int, rounds: int = 1) -> int:
    """How many of so many weights an amount leaves: a fraction of survivors, to the nearest weight, or a count a round.

    Raises
    ------
    ArgumentError
        As :func:`check_amount`.
    """
    check_amount(amount)
    if isinstance(amount, int):
        return n - rounds * amount
    for _ in range(rounds):
        gone = round(amount * n)
        if gone == 0:
            break
        n -= gone
    return n


def prune_smallest(
    weights: Mapping[str, torch.Tensor],
    masks: Mapping[str, torch.Tensor],
    amount: float | int,
    scope: Scope = "global",
    rounds: int = 1,
) -> Masks:
    """Masks without the smallest survivors in absolute value, exactly as many as asked for.

    Of equal magnitudes those that come first, in the order of names and entries, are pruned first. A survivor that is
    zero is a survivor: what is pruned is said by masks, never by values.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Of any shapes; entries outside the masks are not looked at.
    masks : mapping of str to Tensor
        Who has survived so far, bool.
    amount : float or int
        The fraction of the survivors to prune, or how many; of each tensor with scope ``layer``, else of all together.
    scope : str
        ``global`` or ``layer``.
    rounds : int
        Prune at once as many as so many rounds would.

    Raises
    ------
    ArgumentError
        If the amount is out of range, a weight is not a number, or a tensor would keep nothing (named).
    """
    if scope not in SCOPES:
        raise ArgumentError("scope", repr(scope), f"one of {', '.join(SCOPES)}")
    groups = [[name] for name in weights] if scope == "layer" else [list(weights)]
    result: Masks = {}
    for names in groups:
        left = [masks[name].flatten().nonzero()[:, 0] for name in names]
        magnitudes = torch.cat(
            [weights[name].detach().flatten()[index].abs() for name, index in zip(names, left, strict=True)]
        )
        for name, own in zip(names, magnitudes.split([len(index) for index in left]), strict=True):
            if bool(own.isnan().any()):
                raise ArgumentError(f"layer {name!r}", "a weight that is NaN", "numbers")
        kept = n_left(len(magnitudes), amount, rounds)
        if kept < 1:
            raise _no_survivors(names[0], scope, masks[names[0]].numel())
        pruned = _smallest(magnitudes, len(magnitudes) - kept)
        for name, index, gone in zip(names, left, pruned.split([len(index) for index in left]), strict=True):
            mask = masks[name].clone()
            mask.view(-1)[index[gone]] = False
            if not bool(mask.any()):
                raise _no_survivors(name, scope, mask.numel())
            result[name] = mask
    return result


def check_survivors(masks: Mapping[str, torch.Tensor], amount: float | int, scope: Scope, rounds: int) -> None:
    """See before any work whether so many rounds would leave too little, as far as that is known.

    Raises
    ------
    ArgumentError
        If a tensor would keep nothing (named), or fewer weights than there are tensors would be left.
    """
    sizes = {name: int(mask.sum()) for name, mask in masks.items()}
    if scope == "layer":
        for name, size in sizes.items():
            if n_left(size, amount, rounds) < 1:
                raise _no_survivors(name, scope, masks[name].numel())
    elif n_left(sum(sizes.values()), amount, rounds) < len(sizes):
        left = max(0, n_left(sum(sizes.values()), amount, rounds))
        got = f"{amount:,} a round, which leaves {left} of {sum(sizes.values()):,} weights after {rounds} rounds"
        what = "count" if isinstance(amount, int) else "fraction"
        raise ArgumentError(
            what, got, f"at least one for each of {len(sizes)} layers", "fewer rounds, or a smaller one"
        )


def _smallest(values: torch.Tensor, count: int) -> torch.Tensor:
    """Which entries are the ``count`` smallest; of equal ones the first."""
    gone = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    if count == 0:
        return gone
    threshold = values.kthvalue(count).values
    torch.less(values, threshold, out=gone)
    equal = (values == threshold).nonzero()[:, 0]
    gone[equal[: count - int(gone.sum())]] = True
    return gone


def _no_survivors(name: str, scope: Scope, n: int) -> ArgumentError:
    remedy = (
        "--scope layer, fewer rounds, or a smaller fraction" if scope == "global" else "a smaller fraction or count"
    )
    return ArgumentError(f"layer {name!r}", f"a mask with no survivors among {n:,} weights", "at least one", remedy)


def check_masks(weights: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor]) -> None:
    """See that masks fit weights and keep something of each.

    Raises
    ------
    ArgumentError
        Naming the layer that does not.
    """
    for name, mask in masks.items():
        if name not in weights:
            raise ArgumentError(f"layer {name!r}", "a mask for no parameter", f"one of {', '.join(weights)}")
        if mask.shape != weights[name].shape:
            raise ArgumentError(
                f"layer {name!r}", f"a mask of shape {tuple(mask.shape)}", f"the weight's, {tuple(weights[name].shape)}"
            )
        if not bool(mask.any()):
            raise ArgumentError(f"layer {name!r}", f"a mask with no survivors among {mask.numel():,}", "at least one")


# torch's own form of a pruned module.


def apply_masks(module: torch.nn.Module, masks: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Hang masks on a module as :mod:`torch.nn.utils.prune` does, in place; returns it.

    Raises
    ------
    ArgumentError
        As :func:`check_masks`.
    """
    check_masks(dict(module.named_parameters()), masks)
    for name, mask in masks.items():
        path, _, own = name.rpartition(".")
        # Outside autograd, so that the module can be copied before its first forward pass computes the product anew.
        with torch.no_grad():
            prune.custom_from_mask(module.get_submodule(path), own, mask)
    return module


def plain_copy(module: torch.nn.Module) -> tuple[torch.nn.Module, Masks]:
    """A copy of a module without :mod:`torch.nn.utils.prune`'s masks, and the masks that it had."""
    for part in module.modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, prune.BasePruningMethod):
                # What the last forward pass left hangs in autograd's graph, which cannot be copied.
                setattr(part, hook._tensor_name, getattr(part, hook._tensor_name).detach())
    copied = copy.deepcopy(module)
    return copied, take_masks(copied)


def take_masks(module: torch.nn.Module) -> Masks:
    """Take :mod:`torch.nn.utils.prune`'s masks off a module, in place: weights are plain again, the masks are returned.

    Pruned entries are zero; a survivor that is zero is still a survivor of its mask.
    """
    masks: Masks = {}
    for path, part in module.named_modules():
        for hook in [*part._forward_pre_hooks.values()]:
            if isinstance(hook, prune.BasePruningMethod):
                own = hook._tensor_name
                masks[f"{path}.{own}" if path else own] = getattr(part, f"{own}_mask").detach().to(torch.bool).clone()
                prune.remove(part, own)
    return masks


# Section 4.1 of Zhang et al.


@dataclass(frozen=True)
class TeacherPruning:
    """A trained network pruned to its teacher's number of weights.

    Attributes
    ----------
    masks : dict of str to Tensor
        The largest magnitudes.
    deviation : float
        Largest |weight - teacher's weight|.
    bound : float
        Half the smallest non-zero magnitude of the teacher.
    equal : bool
        Whether the masks are the teacher's.
    """

    masks: Masks
    deviation: float
    bound: float
    equal: bool

    @property
    def holds(self) -> bool:
        """Whether the sufficient condition does, so that the masks must be equal."""
        return self.deviation < self.bound


def prune_to_teacher(
    weights: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor], scope: Scope = "global"
) -> TeacherPruning:
    """Prune by magnitude to as many weights as the teacher has, and test the condition under which that finds them.

    If no weight is further than half the teacher's smallest non-zero magnitude from the teacher's, every weight of its
    support is larger in absolute value than every other one, so that the masks are equal (Zhang et al. 2021, sections
    2.2 and 4.1).

    Parameters
    ----------
    weights : mapping of str to Tensor
        Of the trained, dense network.
    teacher : mapping of str to Tensor
        The same shapes, zero where the teacher has no weight.
    scope : str
        ``global``, as in the paper, or ``layer``: each tensor to its own number.

    Raises
    ------
    ArgumentError
        If shapes differ, or a tensor of the teacher's is zero throughout.

    Notes
    -----
    Differs: the paper's Ŵ_min is printed as the smallest value; it is the smallest magnitude that is not zero.
    """
    if set(weights) != set(teacher):
        raise ArgumentError("teacher", f"weights {', '.join(teacher)}", f"those of the network, {', '.join(weights)}")
    support = {name: one.detach() != 0 for name, one in teacher.items()}
    check_masks(weights, support)
    masks = full_masks(weights)
    for names in [[name] for name in weights] if scope == "layer" else [list(weights)]:
        group = {name: weights[name] for name in names}
        extra = sum(int((~support[name]).sum()) for name in names)
        if extra:
            masks |= prune_smallest(group, {name: masks[name] for name in names}, extra)
    deviation = max(float((weights[name].detach() - teacher[name].detach()).abs().max()) for name in weights)
    smallest = min(float(teacher[name].detach()[support[name]].abs().min()) for name in weights)
    equal = all(torch.equal(masks[name], support[name]) for name in weights)
    return TeacherPruning(masks, deviation, smallest / 2.0, equal)
