"""Small dense networks with random weights, and networks with unusual uses of their parameters; batches of two."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from zoo_kit import Apply, Factory, Residual, image, parameter, register, signal

DENSE: dict[str, Factory] = {}
family = register(DENSE)


@family
def mlp_sigmoid() -> tuple[nn.Module, torch.Tensor]:
    """Sigmoid behind every layer, the last one too."""
    return nn.Sequential(
        nn.Linear(20, 16), nn.Sigmoid(), nn.Linear(16, 12), nn.Sigmoid(), nn.Linear(12, 4), nn.Sigmoid()
    ), image(20)


@family
def batchnorm1d_mlp() -> tuple[nn.Module, torch.Tensor]:
    """BatchNorm1d on [batch, channel, position] and, without parameters, on [batch, feature]."""
    first = (nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.Flatten())
    second = (nn.Linear(36, 12, bias=False), nn.BatchNorm1d(12, affine=False), nn.ReLU())
    third = (nn.Linear(12, 10), nn.ReLU(), nn.BatchNorm1d(10), nn.Dropout(0.3), nn.Linear(10, 4))
    return nn.Sequential(*first, *second, *third), signal(3, 8)


class Bilinear(nn.Module):
    """A bilinear layer over the two halves of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.product, self.head = nn.Bilinear(5, 4, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Three values."""
        left, right = torch.split(x, [5, 4], dim=1)
        return self.head(torch.relu(self.product(left, right)))


@family
def bilinear() -> tuple[nn.Module, torch.Tensor]:
    """``nn.Bilinear``, whose weight has three axes."""
    return Bilinear(), signal(9)


class Sine(nn.Module):
    """A dense layer and the sine of a multiple of its values."""

    def __init__(self, n: int, width: int, frequency: float) -> None:
        super().__init__()
        self.linear, self.frequency = nn.Linear(n, width), frequency

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values in [-1, 1]."""
        return torch.sin(self.frequency * self.linear(x))


@family
def siren() -> tuple[nn.Module, torch.Tensor]:
    """A function of two coordinates."""
    return nn.Sequential(Sine(2, 16, 30.0), Sine(16, 16, 3.0), nn.Linear(16, 1)), signal(2)


@family
def positional_mlp() -> tuple[nn.Module, torch.Tensor]:
    """Sines and cosines of a few frequencies, then an MLP with a softplus output."""
    rates = 2.0 ** torch.arange(4) * torch.pi

    def encode(x: torch.Tensor) -> torch.Tensor:
        angle = (x[..., None] * rates).flatten(-2)
        return torch.cat([x, angle.sin(), angle.cos()], dim=-1)

    return nn.Sequential(Apply(encode), nn.Linear(27, 16), nn.ReLU(), nn.Linear(16, 2), nn.Softplus()), signal(3)


class Maxout(nn.Module):
    """The largest of several dense layers' values."""

    def __init__(self, n: int, width: int, pieces: int = 3) -> None:
        super().__init__()
        self.linear, self.shape = nn.Linear(n, width * pieces), (width, pieces)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One value for each group."""
        return self.linear(x).view(-1, *self.shape).max(dim=2).values


@family
def maxout() -> tuple[nn.Module, torch.Tensor]:
    """Two layers of maxout."""
    return nn.Sequential(Maxout(8, 6), Maxout(6, 6), nn.Linear(6, 3)), signal(8)


class Highway(nn.Module):
    """A gate decides how much of the input passes."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.change, self.gate = nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the input's shape."""
        gate = torch.sigmoid(self.gate(x))
        return gate * functional.elu(self.change(x)) + (1 - gate) * x


@family
def highway() -> tuple[nn.Module, torch.Tensor]:
    """Two highway layers."""
    return nn.Sequential(nn.Linear(6, 10), Highway(10), Highway(10), nn.Linear(10, 3)), signal(6)


@family
def glu_net() -> tuple[nn.Module, torch.Tensor]:
    """Gated linear units over features and over channels."""
    dense = nn.Sequential(nn.Flatten(), nn.Linear(24, 16), nn.GLU(dim=-1), nn.Linear(8, 3))
    return nn.Sequential(nn.Conv1d(3, 8, 3), Apply(lambda x: functional.glu(x, dim=1)), dense), signal(3, 8)


class TiedAutoencoder(nn.Module):
    """The decoder's matrix is the encoder's, transposed."""

    def __init__(self, n: int = 16, width: int = 6) -> None:
        super().__init__()
        self.encoder, self.bias = nn.Linear(n, width), parameter(n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the input's shape."""
        code = torch.tanh(self.encoder(x))
        return functional.linear(code, self.encoder.weight.t(), self.bias)


@family
def tied_autoencoder() -> tuple[nn.Module, torch.Tensor]:
    """One matrix used twice."""
    return TiedAutoencoder(), signal(16)


class SharedLayer(nn.Module):
    """One dense layer on three inputs, as in a siamese network, and again on their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.again, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two values."""
        a, b, c = (torch.relu(self.embed(part)) for part in x.chunk(3, dim=1))
        return self.head(torch.relu(self.again(self.again(a + b - c))))


@family
def shared_layer() -> tuple[nn.Module, torch.Tensor]:
    """Weights used in parallel and one behind the other."""
    return SharedLayer(), signal(12)


class FunctionalOps(nn.Module):
    """No modules but parameters: attention pooling, chunks, concatenation, means."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = parameter(12, 6), parameter(12)
        self.score, self.end = parameter(6, 1), parameter(13, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Three values."""
        a, b = functional.linear(x, self.weight, self.bias).chunk(2, dim=-1)
        values = torch.tanh(a) * functional.softsign(b)
        pooled = (torch.softmax(values @ self.score, dim=1) * values).sum(dim=1)
        x = torch.cat([pooled, values.mean(dim=1), x.flatten(1).std(dim=1, keepdim=True)], dim=1)
        return functional.log_softmax(torch.clamp(x, -2, 2).matmul(self.end), dim=-1)


@family
def functional_ops() -> tuple[nn.Module, torch.Tensor]:
    """Functions instead of modules."""
    return FunctionalOps(), signal(5, 6)


class LearnedScale(nn.Module):
    """Parameters that multiply and shift elementwise, and divide as a temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale, self.shift = nn.Conv2d(2, 6, 3), parameter(6, 1, 1, centre=1), parameter(1, 6, 1, 1)
        self.gain, self.mask = parameter(1, centre=0.5), parameter(6, 4, 4)
        self.head, self.temperature = nn.Linear(6, 4), parameter(centre=2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Four values."""
        x = self.conv(x) * self.scale + self.shift
        x = (torch.relu(x) + self.gain * x) * torch.sigmoid(self.mask)
        return self.head(x.mean(dim=(2, 3))) / self.temperature.abs()


@family
def learned_scale() -> tuple[nn.Module, torch.Tensor]:
    """Scales of channels, of positions and of everything."""
    return LearnedScale(), image(2, 6, 6)


@family
def residual_mlp() -> tuple[nn.Module, torch.Tensor]:
    """A regression network for tables: residual blocks of SELU and Mish."""

    def block(act: nn.Module) -> Residual:
        return Residual(nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 20), act, nn.Dropout(0.1), nn.Linear(20, 12)))

    return nn.Sequential(nn.Linear(7, 12), block(nn.SELU()), block(nn.Mish()), nn.Linear(12, 1)), signal(7)


class NormalisedOutput(nn.Module):
    """An embedding of norm one, compared with learned prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.prototypes = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6)), parameter(5, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Cosines to five prototypes, scaled."""
        return 10 * functional.normalize(self.body(x), dim=1) @ functional.normalize(self.prototypes, dim=1).t()


@family
def normalised_output() -> tuple[nn.Module, torch.Tensor]:
    """Cosine similarity; a weight that goes through a norm before it is used."""
    return NormalisedOutput(), signal(8)
