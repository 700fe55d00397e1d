"""The random network whose neurons are pruned; its weights are a function of seed and shape."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slth.errors import ArgumentError
from slth.neurons.law import SPHERE, FeatureLaw
from slth.source.distributions import uniform
from slth.source.philox import GENERATOR, stream_key, words

LARGEST_WIDTH = 1 << 31
LARGEST_MASK = 1 << 28
"""Second-layer weights, width times outputs, for whose coefficients 2 GiB are enough."""

_PIECE = 1 << 20
"""First-layer weights that are made at a time (chosen)."""

_ENTRY, _RADIUS, _SECOND, _ORDER = range(4)


@dataclass(frozen=True)
class NeuronSource:
    """A two-layer network of k m hidden neurons: g_o(x) = Σ v_oi σ(⟨w_i, x⟩), w ~ D*, v ~ U[-1, 1], no biases.

    Malach et al. 2020, section 3. Neuron j k + i is feature i of block j; the network itself knows no blocks.

    Differs: several outputs share the first layer and each has a second layer of its own, so that output o is one of
    the paper's scalar networks.

    Attributes
    ----------
    seed : int
        64 bits.
    inputs, outputs : int
    features, blocks : int
        k and m.
    law : FeatureLaw
        D*.
    constant : bool
        Whether a constant input is appended, which gives every neuron a random bias (not in the paper).
    """

    seed: int
    inputs: int
    outputs: int
    features: int
    blocks: int
    law: FeatureLaw = field(default_factory=lambda: FeatureLaw(SPHERE))
    constant: bool = False
    generator: str = GENERATOR

    def __post_init__(self) -> None:
        if type(self.seed) is not int or not 0 <= self.seed < 2**64:
            raise ArgumentError("seed", repr(self.seed), "a whole number from 0 to 2^64 - 1")
        for name in ("inputs", "outputs", "features", "blocks"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= LARGEST_WIDTH:
                raise ArgumentError(name, repr(value), f"a whole number from 1 to {LARGEST_WIDTH}")
        if self.width > LARGEST_WIDTH or self.width * self.outputs > LARGEST_MASK:
            got = f"{self.features} features, {self.blocks} blocks and {self.outputs} outputs"
            raise ArgumentError("blocks", got, f"a product of at most {LARGEST_MASK}", "fewer blocks")
        if type(self.constant) is not bool:
            raise ArgumentError("constant", repr(self.constant), "true or false")

    @property
    def width(self) -> int:
        """k m."""
        return self.features * self.blocks

    @property
    def row_size(self) -> int:
        """Entries of one w: the inputs, and the constant one."""
        return self.inputs + int(self.constant)

    @property
    def n_weights(self) -> int:
        """Weights of both layers."""
        return self.width * (self.row_size + self.outputs)

    def first(self, start: int, stop: int) -> NDArray[np.float32]:
        """First-layer weights of the neurons ``start`` to ``stop``, (stop - start, row_size)."""
        return self.law.rows(self._key(_ENTRY), self._key(_RADIUS), start, stop, self.row_size)

    def second(self) -> NDArray[np.float32]:
        """Second-layer weights, (outputs, width)."""
        drawn: NDArray[np.float32] = uniform(words(self._key(_SECOND), 0, self.outputs * self.width))
        return drawn.reshape(self.outputs, self.width)

    def pieces(self, most: int = _PIECE) -> Iterator[slice]:
        """The neurons in order, so many of them at a time that no piece has more than ``most`` weights."""
        step = max(1, most // self.row_size)
        for start in range(0, self.width, step):
            yield slice(start, min(start + step, self.width))

    def kept_rows(self, live: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
        """First-layer weights of the neurons in a mask (width,), in order, piece by piece."""
        for piece in self.pieces():
            if live[piece].any():
                yield self.first(piece.start, piece.stop)[live[piece]]

    def survivors_digest(self, mask: NDArray[np.bool_]) -> str:
        """SHA-256 of the kept weights: w of every neuron that an output keeps, then v row by row, as float32."""
        sha = hashlib.sha256()
        for rows in self.kept_rows(np.asarray(mask.any(axis=0), dtype=np.bool_)):
            sha.update(np.ascontiguousarray(rows, dtype="<f4").tobytes())
        sha.update(np.ascontiguousarray(self.second()[mask], dtype="<f4").tobytes())
        return sha.hexdigest()

    def sample_order(self, n: int) -> NDArray[np.int64]:
        """The numbers of n samples in a random order, in which blocks take samples where they do not take all."""
        order: NDArray[np.int64] = np.argsort(words(self._key(_ORDER), 0, n), kind="stable").astype(np.int64)
        return order

    def _key(self, tensor: int) -> tuple[int, int]:
        return stream_key(self.seed, 0, tensor)
