"""Neurons exchanged between blocks: by the source's own signs, until every base set is full."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import slth
from oracle import exchanged
from slth.artifact import TICKETS, from_bytes, to_bytes
from slth.errors import TicketError
from slth.network.graph import Sign
from slth.source import balanced
from slth.source.balanced import BalancedSource, balanced_width
from slth.source.distributions import parse
from slth.source.initialised import from_json
from slth.source.spec import BlockSource
from slth.summary import base_set_sizes
from test_artifact import forge
from zoo import Case, convnet, mlp


def source(
    channels: int, elements: int, sign: Sign = Sign.SIGNED, *, bias: bool = False, **other: Any
) -> BalancedSource:
    """Blocks as wide as a plan makes them."""
    given_ = {"seed": 0, "index": 0, "outputs": 2, "groups": 1, "kernel": (), "scale": 1.0, "initialisation": "uniform"}
    width = balanced_width(elements, channels + bias)
    own = {"inputs_per_group": channels, "bias": bias, "elements": elements, "input_sign": sign, "block_width": width}
    return BalancedSource(**{**given_, **own, **other})


LAWS = [parse("uniform"), parse("normal"), parse("grid:3"), from_json({"name": "kaiming-uniform"})]


@st.composite
def sources(draw: Any) -> BalancedSource:
    elements, groups = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    width = draw(st.sampled_from([0, 2 * elements, 2 * (elements + 1) // 2, 3 * elements + elements % 2]))
    own = {"bias": draw(st.booleans()), "groups": groups, "outputs": groups, "seed": draw(st.integers(0, 2**64 - 1))}
    own |= {"law": draw(st.sampled_from(LAWS))}
    own |= {"block_width": width} if width else {}
    return source(draw(st.integers(1, 12)), elements, draw(st.sampled_from(Sign)), **own)


def check_places(made: BalancedSource) -> None:
    """Neuron by neuron against lists."""
    weight, bias = made.expand_weight(), made.expand_bias()
    for group in range(made.groups):
        first = group * made.neurons_per_group

        def sign(t: int, j: int, first: int = first) -> int:
            return int(np.sign(bias[first + t] if j < 0 else weight[first + t, j]))

        places = exchanged(sign, made.inputs_per_group, made.bias, made)
        for t in range(made.neurons_per_group):
            assert made.usable[first + t] == (t in places)
            block = t // made.block_width
            home = block if block < made.inputs_per_group else -1
            assert made.channels[first + t] == (places[t][0] if t in places else home)
            assert t not in places or sign(t, places[t][0]) == places[t][1]


@given(sources())
def test_neurons_serve_what_the_exchange_written_out_says(made: BalancedSource) -> None:
    check_places(made)


@pytest.mark.parametrize("width", [8, 6])
def test_and_so_they_do_where_there_are_no_more_neurons_than_places(width: int) -> None:
    """Then some have to change places; and with fewer neurons still, some places stay empty."""
    for seed in range(10):
        check_places(source(10, 4, seed=seed, groups=2, block_width=width))


@given(sources())
def test_every_neuron_is_in_at_most_one_base_set_of_its_group_and_none_has_more_than_were_asked_for(
    made: BalancedSource,
) -> None:
    neuron = np.flatnonzero(made.usable)
    channel, sign = made.channels[neuron], np.sign(made.univariate_weights()[neuron]).astype(int)
    assert ((channel >= -int(made.bias)) & (channel < made.inputs_per_group)).all()
    assert (sign[channel < 0] == 1).all() and set(sign[channel >= 0]) <= set(made.input_sign.branches)
    group = neuron // made.neurons_per_group
    counts = Counter(zip(group.tolist(), channel.tolist(), sign.tolist(), strict=True))
    assert max(counts.values(), default=0) <= made.elements == made.largest_base_set
    n_sets = made.groups * (made.inputs_per_group * len(made.input_sign.branches) + made.bias)
    sizes = base_set_sizes(made, made.input_sign)
    assert sorted(sizes.tolist()) == sorted([*counts.values()] + [0] * (n_sets - len(counts)))


@given(sources(), st.sampled_from([0.25, 3.0]), st.integers(1, 3))
def test_who_serves_whom_depends_on_the_signs_of_the_expanding_layer_alone(
    made: BalancedSource, factor: float, times: int
) -> None:
    """No target, no scale, no other layer and no combining weight has a say."""
    other = dataclasses.replace(made, scale=factor, outputs=made.outputs * times, kernel=(3,), expand_scale=0.5)
    np.testing.assert_array_equal(other.channels, made.channels)
    np.testing.assert_array_equal(other.usable, made.usable)
    again = dataclasses.replace(made)
    assert again == made and np.array_equal(again.channels, made.channels)


@pytest.mark.parametrize("sign", Sign)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 8, 9, 40])
def test_base_sets_are_full(channels: int, bias: bool, sign: Sign) -> None:
    for elements in (1, 5, 20):
        for groups in (1, 3):
            for seed in range(6):
                made = source(channels, elements, sign, bias=bias, groups=groups, outputs=groups, seed=seed)
                assert set(base_set_sizes(made, sign).tolist()) == {elements}


@pytest.mark.parametrize("law", ["normal", "grid:3", "hyperbolic:0.01:1"])
def test_so_they_are_under_other_laws(law: str) -> None:
    """A third of the weights of ``grid:3`` are 0, and of no use, but to other channels."""
    for seed in range(5):
        made = source(30, 10, bias=True, seed=seed, law=parse(law))
        assert (base_set_sizes(made, Sign.SIGNED) == 10).all()


def test_without_a_neuron_to_spare_some_change_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine channels of either sign and no bias: as many neurons as places. What is offered alone leaves gaps."""
    full = [base_set_sizes(source(9, 20, seed=seed), Sign.SIGNED) for seed in range(20)]
    assert (np.array(full) == 20).all()
    monkeypatch.setattr(balanced, "_EXCHANGES", 0)
    offered = [base_set_sizes(source(9, 20, seed=seed), Sign.SIGNED) for seed in range(20)]
    assert min(sizes.min() for sizes in offered) < 16
    monkeypatch.setattr(balanced, "_ROUNDS", 0)
    drawn = [base_set_sizes(source(9, 20, seed=seed), Sign.SIGNED) for seed in range(20)]
    assert np.mean(drawn) < np.mean(offered) < 20 and min(sizes.min() for sizes in drawn) < 14


def test_a_group_of_few_blocks_is_wider_and_no_other_is() -> None:
    assert [balanced_width(20, blocks) for blocks in (1, 2, 3, 8, 9, 1000)] == [72, 56, 52, 44, 40, 40]
    assert all(balanced_width(m, blocks) % 2 == 0 for m in range(1, 41) for blocks in range(1, 20))
    assert all(balanced_width(m, b) < balanced_width(m + 1, b) for m in range(1, 40) for b in range(1, 20))


def test_what_serves_a_channel_has_the_laws_magnitudes_whoever_it_is() -> None:
    """A sign says nothing of a magnitude, here or elsewhere: base sets are as good as those that were drawn so."""
    made = source(300, 20, bias=True, outputs=3, seed=1)
    u, neuron = made.univariate_weights(), np.arange(made.n_neurons)
    home = np.append(np.arange(300), -1)[neuron // made.block_width]
    combine = made.combine_weight(0, 3)[:, :, 0]
    for chosen in (made.usable & (made.channels == home), made.usable & (made.channels != home)):
        size = np.sort(np.abs(u[chosen]))
        n = len(size)
        assert n > 300
        assert np.abs(size - (np.arange(n) + 0.5) / n).max() < 1.63 / np.sqrt(n)
        for row in combine[:, chosen]:
            assert abs(np.corrcoef(row, np.abs(u[chosen]))[0, 1]) < 4 / np.sqrt(n)
            assert abs(np.mean(row)) < 4 / np.sqrt(3 * n)
        assert abs(np.corrcoef(np.abs(u[chosen])[1:], np.abs(u[chosen])[:-1])[0, 1]) < 4 / np.sqrt(n)


def test_no_law_makes_the_search_for_places_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each neuron a bounded number of weights is drawn, though none of them fits."""
    made, drawn = source(50, 30, bias=True, groups=2, block_width=60), []
    plain = BalancedSource.expand_at

    def positive(self: BalancedSource, neuron: Any, channel: Any) -> Any:
        drawn.append(len(neuron))
        return np.abs(plain(self, neuron, channel))

    monkeypatch.setattr(BalancedSource, "expand_at", positive)
    sizes = base_set_sizes(made, Sign.SIGNED)
    assert sizes.min() == 0 and sizes.max() == 30
    assert sum(drawn) <= (2 + balanced._ROUNDS + 2 * balanced._EXCHANGES) * made.n_neurons


def test_only_blocks_that_could_be_ragged_are_exchanged() -> None:
    model, shape, own = convnet(), (4, 6, 6), {"base_set_size": 4}
    for options, kinds in (
        ({}, {BalancedSource}),
        ({"domain": (0, 1)}, {BalancedSource}),
        ({"initialisation": "looks-linear"}, {BlockSource}),
        ({"source_activation": "tanh", "domain": (-1, 1)}, {BlockSource}),
        ({"source_activation": "leaky_relu:0.2"}, {BalancedSource}),
    ):
        ticket = Case(model, shape, {**own, **options}).find()
        assert {type(layer) for layer in ticket.spec.layers} == kinds
        orders = {layer.get("order") for layer in TICKETS.header(ticket)["source"]["layers"]}
        assert orders == {kind.order or None for kind in kinds}
        assert from_bytes(to_bytes(ticket)).spec == ticket.spec


SMALL = Case(mlp((2, 3, 1)), (2,), {"base_set_size": 3, "domain": (0, 1)}).find()
HEADER, TENSORS = TICKETS.header(SMALL), TICKETS.tensors(SMALL)
FIELDS = HEADER["source"]["layers"][0]


def test_the_file_says_how_many_elements_and_for_which_signs() -> None:
    assert FIELDS.keys() == {"block_width", "scale", "order", "elements", "input_sign"}
    assert (FIELDS["order"], FIELDS["elements"], FIELDS["input_sign"]) == ("balanced", 3, "nonnegative")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("elements", [0, -1, FIELDS["block_width"] + 1, 2**70, 3.0, "3", True, None, [], {}]),
        ("input_sign", ["imaginary", "", 1, True, None, [], ["signed"], {}]),
        ("order", ["Balanced", "kernels-first", "copies", 1, True, None, [], {}]),
    ],
)
def test_hostile_fields_are_refused(field: str, values: list[Any]) -> None:
    missing = object()
    for value in [*values, missing]:
        header = json.loads(json.dumps(HEADER))
        header["source"]["layers"][0][field] = value
        if value is missing:
            del header["source"]["layers"][0][field]
        begin = time.perf_counter()
        with pytest.raises(TicketError):
            from_bytes(forge(header, TENSORS))
        assert time.perf_counter() - begin < 1


def test_fields_that_are_another_sources_are_found_out() -> None:
    """Other neurons would serve other channels, or a plain block its own."""
    case = Case(mlp((9, 3)), (9,), {"base_set_size": 8})
    target, ticket = case.target(), case.find()
    assert slth.verify(ticket, target).holds
    (layer,), plain = ticket.spec.layers, {field.name for field in dataclasses.fields(BlockSource)}
    others = [dataclasses.replace(layer, elements=7), dataclasses.replace(layer, input_sign=Sign.NONNEGATIVE)]
    others.append(BlockSource(**{name: getattr(layer, name) for name in plain}))
    for other in others:
        forged = dataclasses.replace(ticket, spec=dataclasses.replace(ticket.spec, layers=(other,)))
        assert not slth.verify(from_bytes(to_bytes(forged)), target).holds


OLD = (
    "c-pmAONbmr7)~%RNrD=JLiQqk5D&9MJ-VyA7sOzE;R8IVIqa^J>gwv5c4xYW?wZ}K%c=nh1Qag`?m<w32M^I05s{$Pf`kwi7BPv$xITj>E@V"
    "wme8t4->e)Dx%(^V-^h{6JUsd1#)%Vx`S3iC2GX0q_DwPHo)Te@0D#pNsk=8}c7%(P=49ZyCibOhO3=FDfr2cV9{nG|lk3$A1dm&Z5%9aW$3"
    "Zn?w2p8Pf=CK-2+GB@|$x<7Hbc2lXuv!yKhk>0iXbD_U2MF#4SqhgNW>{G~n(|7@MI{ZN$a@@RV{w#<q{T!SM+L@M+#keAe;jcQqXq~biHaX"
    "qc`Eb}6ZpVI#3jh3+_Y^Bun$du7%^Sj;?T7M7a$J->>(3i1b}7x#PkUCeINTw<N9%fhPlhZepm)2^~)(L&kb65$-~=UtVmBNx+<eQNeiyItW"
    "_TIgo-%nu;-ytaC%ZTq0O4IDG|e{*-}fd(PqB(L6p0TVxQ0N8Y)B*dM%+1s$GO>K#9Y1HMQRVOvfcOJlVB9w7<Bi8}%^aG%2DJw-Qzi(G1!l"
    "?e^A%l<<116YO%k0}AwnS&TF+;cn7sangnNNj<Ml$Cb)$y?Bx+*=u1cVx@8;w}R4tbs>FMeB00P$`N_=+7S(_Mbz_$_TF#M?UnZ8HBHs8_5>"
    "zs#}WrX%L2r*^KqO;R}Tcp1q1+OAp~4vxj4_gMwq5K`T)2(>S-$(4M*c7?aUIJcsBDO4VVQO#=!T0O?@+<0m8&)mW8S1dX@zP69qVct{)IWO"
    "b#fdj>@Vci8Z%ea#zRue-a()tB1^siXO#L#H&<<qkLiI0e~*FP2dpAgf_;QEUY~Mj)~O`*~qjYaEmzg6dx@tK4B2~1R-qtCiAeRq;_q987HR"
    "c**0VzBObE|BLr}QeU~~8^oi|K7g;U@SBP)w`WbtVb5^WWx$v~F&ScRik?N<Hi|OUm^;N`lqR#iUqA)LLMUk2>V!EeU3+wTAb2~=;Z60A1ij"
    "daBl=ht7m6cvSW+Roc&=+~xgSpTtqxGB~E+gVV$ApdrkOOR@chtX3fMukHLg+ZQ${1`FDx|!KL|zaCO{%=>Y_Ji=fy*%?%nPswVg7Y&8*rqK"
    "1>#%CMF?_6R1nmDa2<?I&t*9)6$Yy~8|Gofc(c$tsK->`BHkjdE43o6c+{%bCsidhnn~>OO574^bEf&rfu5`04(`UtC>go}DuIYug2N?4zeB"
    "`9pw7ZnXArW8DsXKj%b?8ShNr4wC(t8K2M$D6qbQ7$61WQ|;;lp-unXdl9x%iyA=~VLfs4}V#l|)j4C#VdjE&O^MlH%wY$oNtV{&%ShHP%db"
    "=h})pUG|SotF=OF(;2aH!JV>>$E(ua!vLkU6bv+=a@Wn+n4gd-1=<QFE?cGd~!~{acX_m|M^+DdhPP;(E6XG`N~N-GrcJzZ+|NpUy*Hn>8Kp"
    "vH7&oMIxAn;{e#@{(FOVJu0Q1m=T69n)?Jc!9+{ET_nnpxJpYy4yK7_i=D|<prtg20dk>zG1GlcscAMwqp6q9Ne&(>;x$&@k_m&OW#2;s*zy"
    "HRp@6m7MzT3}8<FONR`NONTzK>UA?@!IhE#>2KTe>d0X8fp}dhNJ0K3tXUn4Xn8#%JYCr%uZK!9_XJ_q)97@U*-r)@B#pdi~y0BU^u~+D~np"
    "p8NI5>z}!FY1!tNH{YMUdh_3uDv{^"
)
"""A ticket of ``mlp((2, 3, 1))`` from before neurons were exchanged, packed."""


def test_a_ticket_from_before_is_read_as_it_was() -> None:
    content = zlib.decompress(base64.b85decode(OLD))
    ticket = from_bytes(content)
    assert {type(layer) for layer in ticket.spec.layers} == {BlockSource} and to_bytes(ticket) == content
    x = torch.tensor([[0.5, -0.25], [-1.0, 0.75], [0.125, 1.0]], dtype=torch.float64)
    gave = [[-0.4152385584635966], [-0.6792509850890345], [-0.46993693610939763]]
    np.testing.assert_allclose(ticket.module("folded", dtype=torch.float64)(x).tolist(), gave, rtol=1e-12)
    assert slth.verify(ticket, Case(mlp((2, 3, 1)), (2,)).target(), domain=(-1, 1)).holds
