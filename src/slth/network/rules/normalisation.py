"""Normalisations: those by stored statistics are affine maps, of the others the scale and shift are."""

from __future__ import annotations

import torch

from slth.network.rules.base import Call, Draft, Rule, Value, channel_scale, names_of, ticketable


def batch_norm(draft: Draft, call: Call) -> str | None:
    """By stored statistics: each channel times a factor, plus a constant."""
    keys = ("weight", "bias", "running_mean", "running_var")
    given = [key for key in keys if call.arguments.get(key) is not None]
    if call.arguments.get("training") or not all(map(call.is_parameter, given)):
        return None
    if not all(draft.wants(name) for name in names_of(call, "weight", "bias")) or "running_var" not in given:
        return None
    mean, variance = (call.parameter(key).double() for key in ("running_mean", "running_var"))
    ones = torch.ones_like(mean)
    weight = (call.parameter("weight").double() if "weight" in given else ones) / (
        variance + call.arguments["eps"]
    ).sqrt()
    shift = (call.parameter("bias").double() if "bias" in given else 0 * ones) - mean * weight
    dtype = call.parameter("running_mean").dtype
    source = draft.source(call.arguments["input"])
    names = names_of(call, *given)
    return channel_scale(draft, source, weight.to(dtype), shift.to(dtype), names, call.name, movable=True)


def layer_norm(draft: Draft, call: Call) -> str | None:
    """The normalisation is kept; its scale and shift are a map of their own."""
    if call.arguments.get("weight") is None or not ticketable(draft, call, "weight", "bias"):
        return None
    arguments = {key: value for key, value in call.arguments.items() if key not in ("weight", "bias")}
    plain = draft.function(call.op, f"{call.name}_plain", {**arguments, "weight": None, "bias": None})
    weight, bias = call.weight, call.bias
    attributes = {"weight_shape": (weight.numel(), 1, 1), "bias": bias is not None, "axes": weight.dim()}
    bias = None if bias is None else bias.reshape(-1)
    names = names_of(call, "weight", "bias")
    return draft.weigh("scale", [plain], attributes, weight.reshape(-1, 1, 1), bias, names, call.name, "scale")


def rms_norm(draft: Draft, call: Call) -> str | None:
    """As :func:`layer_norm`, without a shift."""
    if call.arguments.get("weight") is None or not ticketable(draft, call, "weight"):
        return None
    arguments = {key: value for key, value in call.arguments.items() if key != "weight"}
    plain = draft.function("rms_norm", f"{call.name}_plain", arguments)
    attributes = {"weight_shape": (call.weight.numel(), 1, 1), "bias": False, "axes": call.weight.dim()}
    weight = call.weight.reshape(-1, 1, 1)
    return draft.weigh("scale", [plain], attributes, weight, None, names_of(call, "weight"), call.name, "scale")


def by_channel(draft: Draft, call: Call) -> str | None:
    """Group and instance normalisation: kept, with the channels' scales and shifts as a map of their own."""
    if call.arguments.get("weight") is None or not ticketable(draft, call, "weight", "bias"):
        return None
    if call.arguments.get("running_mean") is not None and not call.arguments.get("use_input_stats", True):
        return batch_norm(draft, call)
    arguments = {key: value for key, value in call.arguments.items() if key not in ("weight", "bias")}
    plain = draft.function(call.op, f"{call.name}_plain", {**arguments, "weight": None, "bias": None})
    return channel_scale(draft, plain, call.weight, call.bias, names_of(call, "weight", "bias"), call.name)


NORMALISATION_RULES: dict[str, Rule] = {
    "batch_norm": batch_norm,
    "_native_batch_norm_legit_no_training": batch_norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": by_channel,
    "instance_norm": by_channel,
}

__all__ = ["NORMALISATION_RULES", "Value"]
