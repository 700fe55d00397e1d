"""docs/format.md is enough for `pairs` and `golden-ratio`: a reader written from that page alone, in numpy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from slth.source.distributions import from_json
from test_format import Reader, philox
from zoo import Case, inputs, shake

SETTINGS: dict[str, dict[str, Any]] = {
    "pairs": {"construction": "pairs", "base_set_size": 30},
    "golden-ratio": {"construction": "golden-ratio", "tolerance": 0.4},
    **{
        f"{law} {schedule}": {
            "construction": "golden-ratio",
            "tolerance": 0.4,
            "settings": {"law": law, "schedule": schedule},
        }
        for law, schedule in (("hyperbolic-log", "known"), ("hyperbolic-loglog", "odd-multiples"))
    },
}


class SlotReader(Reader):
    """Layers whose mask names the neurons of every slot."""

    def drawn(self, number: int, tensor: int, element: int) -> np.float32:
        """One number of the layer's law; what the law makes of a word is for `slth.source` to say."""
        source = self.header["source"]
        key = philox((number, tensor, 0, 0), (source["seed"] % 2**32, source["seed"] // 2**32))[:2]
        word = philox((element // 4 % 2**32, element // 2**34, 0, 0), (key[0], key[1]))[element % 4]
        law = from_json({"name": source["distribution"], **source["layers"][number].get("law", {})})
        return law.sample(np.array([word], np.uint32))[0]

    def layer(self, number: int, node: dict[str, Any]) -> Any:
        """Channel, univariate weight and combining weights of the neurons that serve a slot, in the slots' order."""
        entry, attributes = self.header["source"]["layers"][number], node["attributes"]
        outputs, inputs_, *kernel = attributes["weight_shape"]
        groups, taps, width = attributes.get("groups", 1), math.prod(kernel), entry["block_width"]
        pools, order = self.header["construction"] == "pairs", entry.get("order", "")
        rows = outputs // groups
        n_weights = rows * inputs_ * taps
        slots = n_weights + rows * attributes["bias"]
        per_group = width * slots if pools else width
        counts, numbers = self.tensors[f"layers.{number}.counts"], self.tensors[f"layers.{number}.neurons"]
        kept, n = [], 0
        for slot in range(groups * slots):
            group, own = divmod(slot, slots)
            bias = own >= n_weights
            row, tap = (own - n_weights, taps // 2) if bias else (own // (inputs_ * taps), own % taps)
            channel = own // taps % inputs_
            for _ in range(counts[slot]):
                neuron = int(numbers[n]) + (own * width if pools else 0)
                n += 1
                row_in = neuron * groups + group if order else group * per_group + neuron
                output = group * rows + row
                at = neuron * outputs + output if order else output * per_group + neuron
                u = self.drawn(number, 1, row_in) if bias else self.drawn(number, 0, row_in * inputs_ + channel)
                v = np.float32(entry["scale"]) * self.drawn(number, 2, at * taps + tap)
                if order == "odd-multiples":
                    v *= np.float32(math.gcd(neuron + 1, 2**60))
                kept.append((-1 if bias else group * inputs_ + channel, u, output, tap, v))
        channel, univariate = np.array([k[0] for k in kept]), np.array([k[1] for k in kept], np.float64)
        combine = np.zeros((outputs, len(kept), taps))
        for index, (_, _, output, tap, v) in enumerate(kept):
            combine[output, index, tap] = v
        return channel, univariate, combine, None


@pytest.mark.parametrize("name", SETTINGS)
def test_a_reader_written_from_the_page_computes_the_same(tmp_path: Path, name: str) -> None:
    net = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    case = Case(shake(net, 3), (2, 3), {**SETTINGS[name], "seed": 2**40 + 7})
    ticket = case.find()
    ticket.save(tmp_path / "a.ticket")
    reader = SlotReader(tmp_path / "a.ticket")
    assert reader.content_digest() == reader.header["content_digest"]
    folded = ticket.module("folded", dtype=torch.float64)
    for x in inputs(case.shape, 6):
        np.testing.assert_allclose(reader.run(x.numpy()), folded(x[None])[0].detach().numpy(), rtol=1e-12, atol=1e-12)
