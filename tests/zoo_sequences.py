"""Small networks over sequences with random weights: transformers, recurrent networks, one-dimensional convolutions."""

from __future__ import annotations

import math
import warnings

import torch
from torch import nn
from torch.nn import functional

from zoo_kit import Apply, Factory, image, parameter, register, signal, tokens

SEQUENCES: dict[str, Factory] = {}
family = register(SEQUENCES)


class Attention(nn.Module):
    """Self-attention of several heads by matrix products; ``mask`` (boolean, [query, key]) says who sees whom."""

    def __init__(self, d: int, n_heads: int, mask: torch.Tensor | None = None) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values [batch, position, feature]."""
        batch, length, d = x.shape
        q, k, v = (
            f(x).view(batch, length, self.n_heads, -1).transpose(1, 2) for f in (self.query, self.key, self.value)
        )
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(d // self.n_heads)
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask, float("-inf"))
        return self.out(torch.matmul(scores.softmax(dim=-1), v).transpose(1, 2).reshape(batch, length, d))


class PostNorm(nn.Module):
    """A transformer's layer as in BERT: LayerNorm behind every residual connection."""

    def __init__(self, attention: Attention, d: int, inner: int) -> None:
        super().__init__()
        self.attention, self.norm1, self.norm2 = attention, nn.LayerNorm(d), nn.LayerNorm(d, eps=1e-12)
        self.up, self.down = nn.Linear(d, inner), nn.Linear(inner, d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the input's shape."""
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


class ViT(nn.Module):
    """Patches, a class token, positions; the module MultiheadAttention; LayerNorm before every part."""

    def __init__(self, d: int = 16, n_layers: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, d, 4, stride=4)
        self.token, self.position = parameter(1, 1, d), parameter(1, 10, d)
        self.attention = nn.ModuleList(nn.MultiheadAttention(d, 4, batch_first=True) for _ in range(n_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(d, eps=1e-6) for _ in range(2 * n_layers + 1))
        self.dense = nn.ModuleList(
            nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d)) for _ in range(n_layers)
        )
        self.head = nn.Linear(d, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Five logits from the class token."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        for i, (attention, dense) in enumerate(zip(self.attention, self.dense, strict=True)):
            y = self.norms[2 * i](x)
            x = x + attention(y, y, y, need_weights=False)[0]
            x = x + dense(self.norms[2 * i + 1](x))
        return self.head(self.norms[-1](x)[:, 0])


@family
def vit() -> tuple[nn.Module, torch.Tensor]:
    """An image of nine patches."""
    return ViT(), image(3, 12, 12)


def _encoder(batch_first: bool, norm_first: bool, activation: str) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(16, 4, 32, activation=activation, batch_first=batch_first, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16), enable_nested_tensor=False)


@family
def transformer_encoder() -> tuple[nn.Module, torch.Tensor]:
    """``nn.TransformerEncoder`` with the batch first, ReLU, LayerNorm behind."""
    return nn.Sequential(_encoder(True, False, "relu"), Apply(lambda x: x.mean(1)), nn.Linear(16, 5)), signal(6, 16)


@family
def transformer_positions_first() -> tuple[nn.Module, torch.Tensor]:
    """``nn.TransformerEncoder`` with positions first (turned around inside), GELU, LayerNorm before."""
    turn = Apply(lambda x: x.transpose(0, 1))
    return nn.Sequential(turn, _encoder(False, True, "gelu"), turn, nn.Linear(16, 3)), signal(6, 16)


class Albert(nn.Module):
    """One transformer layer, used several times; factorised embedding of tokens."""

    def __init__(self, n_tokens: int = 40, d: int = 24, n_times: int = 3) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(n_tokens, 8), nn.Embedding(12, 8)
        self.norm, self.widen = nn.LayerNorm(8), nn.Linear(8, d)
        self.layer, self.n_times = PostNorm(Attention(d, 3), d, 32), n_times
        self.pooler, self.head = nn.Linear(d, d), nn.Linear(d, 5)
        self.register_buffer("numbers", torch.arange(12))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Five logits from the first token."""
        x = self.word(ids) + self.position(self.numbers[: ids.shape[1]])
        x = self.widen(self.norm(x))
        for _ in range(self.n_times):
            x = self.layer(x)
        return self.head(torch.tanh(self.pooler(x[:, 0])))


@family
def albert() -> tuple[nn.Module, torch.Tensor]:
    """Shared layers, token numbers as input."""
    return Albert(), tokens(7, 40)


class BertLike(nn.Module):
    """Embeddings of tokens and positions; every token sees itself and those before it."""

    def __init__(self, n_tokens: int = 30, length: int = 8, d: int = 16) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(n_tokens, d, padding_idx=0), parameter(length, d)
        mask = torch.ones(length, length).tril().bool()
        self.norm = nn.LayerNorm(d)
        self.layers = nn.Sequential(*(PostNorm(Attention(d, 2, mask), d, 32) for _ in range(2)))
        self.head = nn.Linear(d, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Five logits for every token."""
        return self.head(self.layers(self.norm(self.word(ids) + self.position)))


@family
def bert_like() -> tuple[nn.Module, torch.Tensor]:
    """A constant mask, token numbers as input."""
    return BertLike(), tokens(8, 30)


class TiedLanguageModel(nn.Module):
    """The embedding's matrix is the output's; causal attention by torch's own function."""

    def __init__(self, n_tokens: int = 30, d: int = 16) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(n_tokens, d), nn.Embedding(10, d)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(d) for _ in range(3))
        self.joint, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.dense = nn.Sequential(nn.Linear(d, 32), nn.GELU(approximate="tanh"), nn.Linear(32, d))
        self.head = nn.Linear(d, n_tokens, bias=False)
        self.head.weight = self.word.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits of the next token at every position."""
        batch, length = ids.shape
        x = self.word(ids) + self.position(torch.arange(length))
        q, k, v = (t.view(batch, length, 2, -1).transpose(1, 2) for t in self.joint(self.norm1(x)).chunk(3, dim=-1))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, -1))
        return self.head(self.norm3(x + self.dense(self.norm2(x))))


@family
def tied_embedding() -> tuple[nn.Module, torch.Tensor]:
    """A language model in the manner of GPT-2."""
    return TiedLanguageModel(), tokens(8, 30)


class RMSNormNet(nn.Module):
    """RMSNorm by the module and by hand, a gated dense part, rotary positions."""

    def __init__(self, d: int = 16, length: int = 6) -> None:
        super().__init__()
        self.norm, self.scale = nn.RMSNorm(d, eps=1e-6), parameter(d, centre=1)
        self.query, self.key, self.value, self.out = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(d, 24), nn.Linear(d, 24), nn.Linear(24, d)
        angle = torch.arange(length)[:, None] * 100 ** -torch.linspace(0, 1, d // 2)[None]
        self.register_buffer("cos", torch.cat([angle.cos(), angle.cos()], 1))
        self.register_buffer("sin", torch.cat([angle.sin(), angle.sin()], 1))

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        """Pairs of features turned by their position's angle."""
        half = x.shape[-1] // 2
        return x * self.cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * self.sin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the input's shape."""
        y = self.norm(x)
        q, k = self.turn(self.query(y)), self.turn(self.key(y))
        x = x + self.out(torch.bmm(torch.softmax(torch.bmm(q, k.mT) * 0.25, -1), self.value(y)))
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


@family
def rms_norm_net() -> tuple[nn.Module, torch.Tensor]:
    """A layer in the manner of LLaMA."""
    return RMSNormNet(), signal(6, 16)


class Mixer(nn.Module):
    """Dense layers over positions and over features in turn."""

    def __init__(self, length: int, d: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.positions = nn.Sequential(nn.Linear(length, 12), nn.GELU(), nn.Linear(12, length))
        self.features = nn.Sequential(nn.Linear(d, 20), nn.GELU(), nn.Linear(20, d))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the input's shape."""
        x = x + self.positions(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.features(self.norm2(x))


@family
def mixer() -> tuple[nn.Module, torch.Tensor]:
    """MLP-Mixer on patches."""
    patches = (nn.Conv2d(3, 10, 4, stride=4), nn.Flatten(2), Apply(lambda x: x.mT))
    end = (nn.LayerNorm(10), Apply(lambda x: x.mean(dim=1)), nn.Linear(10, 5))
    return nn.Sequential(*patches, Mixer(9, 10), Mixer(9, 10), *end), image(3, 12, 12)


class EinsumNet(nn.Module):
    """Attention and a dense layer written with ``torch.einsum``."""

    def __init__(self, d: int = 12, n_heads: int = 3) -> None:
        super().__init__()
        self.joint = parameter(3, n_heads, d, d // n_heads)
        self.out, self.bias = parameter(n_heads, d // n_heads, d), parameter(d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the input's shape."""
        q, k, v = torch.einsum("bnd,thde->tbhne", x, self.joint).unbind(0)
        weights = torch.einsum("bhqe,bhke->bhqk", q, k).softmax(-1)
        return x + torch.einsum("bhqk,bhke,hed->bqd", weights, v, self.out) + self.bias


@family
def einsum_net() -> tuple[nn.Module, torch.Tensor]:
    """Weights with three and four axes."""
    return nn.Sequential(EinsumNet(), nn.Linear(12, 4)), signal(5, 12)


class Recurrent(nn.Module):
    """A recurrent network and a dense layer on its last state, or on the mean of its outputs."""

    def __init__(self, body: nn.RNNBase, n: int, mean: bool) -> None:
        super().__init__()
        self.body, self.head, self.mean = body, nn.Linear(n, 4), mean

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Four logits."""
        values, state = self.body(x)
        state = state[0] if isinstance(state, tuple) else state
        return self.head(values.mean(1) if self.mean else state[-1])


@family
def lstm_classifier() -> tuple[nn.Module, torch.Tensor]:
    """Two layers; the last state decides."""
    return Recurrent(nn.LSTM(6, 12, num_layers=2, batch_first=True), 12, mean=False), signal(7, 6)


@family
def gru_bidirectional() -> tuple[nn.Module, torch.Tensor]:
    """Both directions, the mean over time."""
    return Recurrent(nn.GRU(6, 8, batch_first=True, bidirectional=True), 16, mean=True), signal(7, 6)


@family
def rnn_tanh() -> tuple[nn.Module, torch.Tensor]:
    """A plain recurrent network."""
    return Recurrent(nn.RNN(6, 10, batch_first=True), 10, mean=False), signal(7, 6)


class LSTMCells(nn.Module):
    """Cells in a loop that tracing unrolls: the same weights at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(5, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Three logits."""
        h = c = x.new_zeros(x.shape[0], 8)
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
        return self.head(h)


@family
def lstm_cells() -> tuple[nn.Module, torch.Tensor]:
    """Four steps of one cell."""
    return LSTMCells(), signal(4, 5)


class WaveNet(nn.Module):
    """Gated dilated convolutions with residual and skip connections."""

    def __init__(self, n: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, n, 1)
        self.filters = nn.ModuleList(nn.Conv1d(n, n, 3, dilation=2**i, padding=2**i) for i in range(3))
        self.gates = nn.ModuleList(nn.Conv1d(n, n, 3, dilation=2**i, padding=2**i) for i in range(3))
        self.mixes = nn.ModuleList(nn.Conv1d(n, n, 1) for _ in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(n, n, 1) for _ in range(3))
        self.last = nn.Sequential(nn.ReLU(), nn.Conv1d(n, n, 1), nn.ReLU(), nn.Conv1d(n, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Four values at every time."""
        x = self.first(x)
        skipped = torch.zeros_like(x)
        for f, gate, mix, skip in zip(self.filters, self.gates, self.mixes, self.skips, strict=True):
            y = torch.tanh(f(x)) * torch.sigmoid(gate(x))
            skipped = skipped + skip(y)
            x = x + mix(y)
        return self.last(skipped)


@family
def dilated_1d() -> tuple[nn.Module, torch.Tensor]:
    """A one-dimensional dilated residual network, tanh times sigmoid."""
    return WaveNet(), signal(1, 32)


@family
def weight_norm_net() -> tuple[nn.Module, torch.Tensor]:
    """Weight normalisation as a parametrisation and in its first form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = nn.utils.weight_norm(nn.Conv1d(6, 6, 3, dilation=2, padding=2))
    new = nn.utils.parametrizations.weight_norm
    layers = (new(nn.Conv1d(2, 6, 3)), nn.ReLU(), old, nn.ReLU(), nn.Flatten(), new(nn.Linear(60, 4), dim=None))
    return nn.Sequential(*layers), signal(2, 12)


@family
def spectral_norm_net() -> tuple[nn.Module, torch.Tensor]:
    """Spectral normalisation as a parametrisation and in its first form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = nn.utils.spectral_norm(nn.Linear(12, 8))
    new = nn.utils.parametrizations.spectral_norm
    head = new(nn.Linear(8, 3))
    convolution = new(nn.Conv2d(1, 3, 3))
    return nn.Sequential(convolution, nn.LeakyReLU(0.1), nn.Flatten(), old, nn.ReLU(), head), image(1, 4, 4)
