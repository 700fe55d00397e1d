"""The source network is a function of its specification, element by element."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slth.source.philox import philox, stream_key
from slth.source.spec import BlockSource, SourceSpec

LAYERS = st.builds(
    lambda rows, groups, **rest: BlockSource(outputs=rows * groups, groups=groups, **rest),
    rows=st.integers(1, 4),
    groups=st.integers(1, 3),
    seed=st.integers(0, 2**64 - 1),
    index=st.integers(0, 100),
    inputs_per_group=st.integers(1, 4),
    kernel=st.sampled_from([(), (3,), (2, 2), (1, 2, 2)]),
    bias=st.booleans(),
    block_width=st.sampled_from([2, 4, 10]),
    scale=st.sampled_from([1.0, 0.25, float(np.float32(0.3)), float(np.float32(1e-4))]),
    initialisation=st.sampled_from(["uniform", "looks-linear"]),
)


def _element(layer: BlockSource, tensor: int, index: int) -> np.float32:
    """The obvious version: one word in Python, one formula."""
    word = philox((index // 4, 0, 0, 0), stream_key(layer.seed, layer.index, tensor))[index % 4]
    return np.float32((2 * (word >> 8) + 1 - 2**24) / 2**24)


@given(LAYERS)
def test_every_weight_is_the_stated_element_of_its_stream(layer: BlockSource) -> None:
    mirror = layer.initialisation == "looks-linear"
    rows = [(t // 2, np.float32(1 - 2 * (t % 2))) if mirror else (t, np.float32(1)) for t in range(layer.n_neurons)]
    expand = [
        [sign * _element(layer, 0, row * layer.inputs_per_group + j) for j in range(layer.inputs_per_group)]
        for row, sign in rows
    ]
    np.testing.assert_array_equal(layer.expand_weight(), np.array(expand, dtype=np.float32))
    if layer.bias:
        np.testing.assert_array_equal(layer.expand_bias(), [sign * _element(layer, 1, row) for row, sign in rows])
    combine = layer.combine_weight(0, layer.outputs)
    drawn = layer.neurons_per_group // (2 if mirror else 1)
    for o, t, k in itertools.islice(np.ndindex(combine.shape), 0, None, 7):
        row, sign = rows[t]
        value = sign * (_element(layer, 2, (o * drawn + row) * layer.taps + k) * np.float32(layer.scale))
        assert combine[o, t, k] == value


@given(LAYERS, st.data())
def test_any_rows_alone_are_the_slice_of_the_whole(layer: BlockSource, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, layer.outputs - 1))
    stop = data.draw(st.integers(start + 1, layer.outputs))
    np.testing.assert_array_equal(layer.combine_weight(start, stop), layer.combine_weight(0, layer.outputs)[start:stop])
    start = data.draw(st.integers(0, layer.n_neurons - 1))
    stop = data.draw(st.integers(start + 1, layer.n_neurons))
    np.testing.assert_array_equal(
        layer._rows(0, start, stop, layer.inputs_per_group), layer.expand_weight()[start:stop]
    )


@given(LAYERS)
def test_univariate_weights_are_the_entries_of_the_whole_first_layer(layer: BlockSource) -> None:
    weight = layer.expand_weight()
    for neuron, value in enumerate(layer.univariate_weights()):
        block = neuron % layer.neurons_per_group // layer.block_width
        is_bias = block == layer.inputs_per_group
        assert value == (layer.expand_bias()[neuron] if is_bias else weight[neuron, block])


@given(LAYERS)
def test_looks_linear_neurons_mirror_each_other_exactly(layer: BlockSource) -> None:
    layer = dataclasses.replace(layer, initialisation="looks-linear")
    combine = layer.combine_weight(0, layer.outputs)
    np.testing.assert_array_equal(combine[:, 1::2], -combine[:, ::2])
    np.testing.assert_array_equal(layer.expand_weight()[1::2], -layer.expand_weight()[::2])
    np.testing.assert_array_equal(layer.univariate_weights()[1::2], -layer.univariate_weights()[::2])
    np.testing.assert_array_equal(layer.expand_bias()[1::2], -layer.expand_bias()[::2])


@given(LAYERS)
def test_sizes_laws_and_counts(layer: BlockSource) -> None:
    combine = layer.combine_weight(0, layer.outputs)
    assert combine.dtype == layer.expand_weight().dtype == layer.univariate_weights().dtype == np.float32
    assert combine.shape == (layer.outputs, layer.neurons_per_group, layer.taps)
    assert layer.n_weights == combine.size + layer.expand_weight().size + layer.bias * layer.n_neurons
    assert (np.abs(combine) <= np.float32(layer.scale)).all() and (np.abs(layer.expand_weight()) < 1).all()
    assert (combine != 0).all()


def _layer(**changes: object) -> BlockSource:
    base = BlockSource(7, 0, 3, 4, 1, (), True, 10, 0.5, "uniform")
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize("change", [{"seed": 8}, {"seed": 7 + 2**32}, {"index": 1}])
def test_another_seed_or_layer_gives_other_weights(change: dict[str, int]) -> None:
    one, other = _layer(), _layer(**change)
    assert not np.intersect1d(one.expand_weight(), other.expand_weight()).size
    assert not np.intersect1d(one.combine_weight(0, 4), other.combine_weight(0, 4)).size


def test_the_scale_multiplies_the_combining_weights_and_nothing_else() -> None:
    one, half = _layer(scale=1.0), _layer(scale=0.5)
    np.testing.assert_array_equal(half.combine_weight(0, 4), one.combine_weight(0, 4) / 2)
    np.testing.assert_array_equal(half.expand_weight(), one.expand_weight())
    np.testing.assert_array_equal(half.expand_bias(), one.expand_bias())


def test_product_laws_of_an_element() -> None:
    """Theory 0.1 and C6: V U has the density -ln|x| / 2; V U+ is 0 half of the time, and E max(0, V U+) = 1/16."""
    layer = BlockSource(1, 0, 1, 200, 1, (), False, 10000, 1.0, "uniform")
    u = layer.univariate_weights().astype(np.float64)
    x = (layer.combine_weight(0, 200)[:, :, 0].astype(np.float64) * u).ravel()
    n, width = x.size, 0.02
    for centre in (0.5, -0.5):
        density = (np.abs(x - centre) < width / 2).mean() / width
        assert abs(density - np.log(2) / 2) < 5 * (np.log(2) / 2 / width / n) ** 0.5 + 1e-3
    for z in (0.1, 0.3, 0.7):
        assert abs((np.abs(x) < z).mean() - z * (1 - np.log(z))) < 0.01
    rectified = x[np.tile(u > 0, 200)]
    # The elements share 10000 univariate weights, which is the sample size that counts.
    assert abs(len(rectified) / n - 0.5) < 5 * 0.5 / 100
    assert abs(np.maximum(rectified, 0).sum() / n - 1 / 16) < 5 * 0.15 / 100


def test_json_names_everything_that_the_weights_depend_on() -> None:
    spec = SourceSpec(7, "uniform", (_layer(), _layer(index=1, block_width=20, scale=0.25)))
    assert spec.to_json() == {
        "seed": 7,
        "generator": "philox4x32-10",
        "distribution": "uniform",
        "initialisation": "uniform",
        "activation": "relu",
        "layers": [{"block_width": 10, "scale": 0.5}, {"block_width": 20, "scale": 0.25}],
    }
    assert spec.n_weights == sum(layer.n_weights for layer in spec.layers)
