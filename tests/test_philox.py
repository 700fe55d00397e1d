"""The generator: published vectors, kernels against the obvious version, and any block made alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slth.source.philox import _block, philox, stream_key, words, words_at

# Random123 1.14, kat_vectors: philox4x32 10.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
WORD = st.integers(0, 2**32 - 1)
KEY = st.tuples(WORD, WORD)


def _oracle(key: tuple[int, int], index: int) -> int:
    counter = index // 4
    return philox((counter & 0xFFFFFFFF, counter >> 32, 0, 0), key)[index % 4]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_published_vectors(counter, key, expected) -> None:
    assert philox(counter, key) == expected
    assert tuple(int(word) for word in _block(*map(np.uint64, (*counter, *key)))) == expected


@given(KEY, st.integers(0, 2**64 - 100), st.integers(0, 40))
def test_words_equal_the_oracle_wherever_they_start(key: tuple[int, int], start: int, count: int) -> None:
    assert words(key, start, count).tolist() == [_oracle(key, start + i) for i in range(count)]


@given(KEY, st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_scattered_words_equal_the_oracle_in_the_order_asked(key: tuple[int, int], indices: list[int]) -> None:
    assert words_at(key, np.array(indices, dtype=np.uint64)).tolist() == [_oracle(key, index) for index in indices]


@given(KEY, st.integers(0, 2**40), st.integers(0, 300), st.data())
def test_any_block_alone_is_the_slice_of_the_whole(
    key: tuple[int, int], start: int, n: int, data: st.DataObject
) -> None:
    whole = words(key, start, n)
    first = data.draw(st.integers(0, n))
    count = data.draw(st.integers(0, n - first))
    np.testing.assert_array_equal(words(key, start + first, count), whole[first : first + count])


def test_words_do_not_repeat_where_the_counter_leaves_32_bits() -> None:
    low, high = words((1, 2), 0, 64), words((1, 2), 2**34, 64)
    assert not np.intersect1d(low, high).size
    assert high[0] == philox((0, 1, 0, 0), (1, 2))[0]


@given(st.integers(0, 2**64 - 1), WORD, st.integers(0, 2))
def test_stream_key_is_the_stated_function_of_seed_layer_and_tensor(seed: int, layer: int, tensor: int) -> None:
    assert stream_key(seed, layer, tensor) == philox((layer, tensor, 0, 0), (seed % 2**32, seed // 2**32))[:2]


def test_no_two_streams_share_a_key() -> None:
    seeds = [0, 1, 2**32 - 1, 2**32, 2**64 - 1]
    keys = [stream_key(seed, layer, tensor) for seed, layer, tensor in itertools.product(seeds, range(50), range(3))]
    assert len(set(keys)) == len(keys)
