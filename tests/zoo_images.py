"""Small convolutional networks with random weights, one of each family of architectures; input (2, channels, ...)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from zoo_kit import Apply, Factory, Residual, image, parameter, register, signal

IMAGES: dict[str, Factory] = {}
family = register(IMAGES)


def conv_bn(n: int, channels: int, kernel: int = 3, act: nn.Module | None = None, **options: int) -> nn.Sequential:
    """Convolution without bias and padded to keep the size, BatchNorm, activation (default ReLU)."""
    convolution = nn.Conv2d(n, channels, kernel, padding=kernel // 2, bias=False, **options)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), act or nn.ReLU())


def head(n: int, n_classes: int = 5) -> nn.Sequential:
    """Global average pooling and a dense layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n, n_classes))


@family
def lenet_bn() -> tuple[nn.Module, torch.Tensor]:
    """Convolution, BatchNorm, ReLU, pooling; a dense head."""
    pool = nn.MaxPool2d(2)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(12 * 4 * 4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5))
    return nn.Sequential(conv_bn(1, 6, 5), pool, conv_bn(6, 12), pool, dense), image(1, 16, 16)


@family
def relu_before_bn() -> tuple[nn.Module, torch.Tensor]:
    """BatchNorm behind ReLU, before a padded convolution that sees zeros where BatchNorm's shift is not."""
    layers: list[nn.Module] = []
    for n, channels in ((2, 8), (8, 8), (8, 6)):
        layers += [nn.Conv2d(n, channels, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(channels)]
    return nn.Sequential(*layers, nn.MaxPool2d(2), head(6)), image(2, 10, 10)


@family
def tall_kernels() -> tuple[nn.Module, torch.Tensor]:
    """A signal as an image of width one: tall kernels, stride, uneven padding by hand, ReLU before BatchNorm."""
    layers: list[nn.Module] = []
    for n, channels, kernel, stride in ((1, 16, 32, 4), (16, 8, 8, 1), (8, 12, 8, 1)):
        pad = nn.ZeroPad2d((0, 0, (kernel - stride) // 2, (kernel - stride + 1) // 2))
        convolution = nn.Conv2d(n, channels, (kernel, 1), stride=(stride, 1))
        layers += [pad, convolution, nn.ReLU(), nn.BatchNorm2d(channels, eps=1e-3), nn.MaxPool2d((2, 1))]
    dense = [Apply(lambda x: x.permute(0, 2, 1, 3).reshape(-1, 8 * 12)), nn.Linear(8 * 12, 20), nn.Sigmoid()]
    return nn.Sequential(Apply(lambda x: x[:, None, :, None]), *layers, *dense), signal(256)


def prelu(channels: int) -> nn.PReLU:
    """A slope of its own for every channel, one of them negative."""
    module = nn.PReLU(channels)
    module.weight.data = torch.linspace(-0.1, 0.6, channels)
    return module


@family
def prelu_residual() -> tuple[nn.Module, torch.Tensor]:
    """A face network: PReLU per channel, BatchNorm before the convolution, residual blocks."""

    def block(n: int, channels: int, stride: int) -> Residual:
        body = nn.Sequential(
            nn.BatchNorm2d(n),
            nn.Conv2d(n, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            prelu(channels),
            nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        down = nn.Sequential(nn.Conv2d(n, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
        return Residual(body, down if stride > 1 or n != channels else None)

    stem = conv_bn(3, 8, act=prelu(8))
    end = nn.Sequential(nn.BatchNorm2d(12), nn.Dropout(), nn.Flatten(), nn.Linear(300, 16), nn.BatchNorm1d(16))
    return nn.Sequential(stem, block(8, 8, 1), block(8, 12, 2), block(12, 12, 1), end), signal(3, 10, 10)


def basic_block(n: int, channels: int, stride: int = 1) -> Residual:
    """The block of ResNet-18, with a convolution on the shortcut where shapes differ."""
    inner = conv_bn(n, channels, stride=stride)
    outer = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    down = nn.Sequential(nn.Conv2d(n, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
    return Residual(nn.Sequential(inner, outer), down if stride > 1 or n != channels else None, nn.ReLU())


@family
def resnet() -> tuple[nn.Module, torch.Tensor]:
    """Basic blocks, two of them with downsampling."""
    stem = nn.Sequential(conv_bn(3, 8), nn.MaxPool2d(3, 2, padding=1))
    return nn.Sequential(stem, basic_block(8, 8), basic_block(8, 16, 2), basic_block(16, 24, 2), head(24)), image(
        3, 16, 16
    )


@family
def preact_resnet() -> tuple[nn.Module, torch.Tensor]:
    """BatchNorm and ReLU before every convolution; the skip connection is never activated."""

    def block() -> Residual:
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
        return Residual(nn.Sequential(*layers))

    end = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), head(8))
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), block(), block(), end), image(3, 8, 8)


@family
def mobilenet() -> tuple[nn.Module, torch.Tensor]:
    """Inverted residuals: expansion, depthwise convolution, linear projection; ReLU6."""

    def block(n: int, channels: int, stride: int) -> nn.Module:
        inner = 4 * n
        body = nn.Sequential(
            conv_bn(n, inner, 1, nn.ReLU6()),
            conv_bn(inner, inner, 3, nn.ReLU6(), stride=stride, groups=inner),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        return Residual(body) if stride == 1 and n == channels else body

    stem = conv_bn(3, 8, 3, nn.ReLU6(), stride=2)
    blocks = (block(8, 8, 1), block(8, 12, 2), block(12, 12, 1))
    end = (conv_bn(12, 32, 1, nn.ReLU6()), Apply(lambda x: x.mean([2, 3])), nn.Dropout(0.2), nn.Linear(32, 5))
    return nn.Sequential(stem, *blocks, *end), image(3, 16, 16)


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate that sees their means."""

    def __init__(self, n: int, inner: int, act: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(n, inner, 1), nn.Conv2d(inner, n, 1)
        self.act, self.gate = act, gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input times its gate."""
        return x * self.gate(self.expand(self.act(self.reduce(functional.adaptive_avg_pool2d(x, 1)))))


@family
def efficientnet() -> tuple[nn.Module, torch.Tensor]:
    """Inverted residuals with SiLU and squeeze-excitation."""

    def block(n: int, channels: int, stride: int) -> nn.Module:
        inner = 3 * n
        body = nn.Sequential(
            conv_bn(n, inner, 1, nn.SiLU()),
            conv_bn(inner, inner, 5, nn.SiLU(), stride=stride, groups=inner),
            SqueezeExcite(inner, 4, nn.SiLU(), nn.Sigmoid()),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        return Residual(body) if stride == 1 and n == channels else body

    stem = conv_bn(3, 8, 3, nn.SiLU(), stride=2)
    return nn.Sequential(stem, block(8, 8, 1), block(8, 12, 2), block(12, 12, 1), head(12)), image(3, 16, 16)


@family
def hardswish_net() -> tuple[nn.Module, torch.Tensor]:
    """MobileNetV3's activations: hard swish, and a hard sigmoid as gate."""
    inner = nn.Sequential(conv_bn(8, 8, 3, nn.Hardswish(), groups=8), SqueezeExcite(8, 4, nn.ReLU(), nn.Hardsigmoid()))
    return nn.Sequential(conv_bn(3, 8, 3, nn.Hardswish()), Residual(inner), head(8)), image(3, 8, 8)


@family
def separable() -> tuple[nn.Module, torch.Tensor]:
    """Xception's separable convolutions: depthwise, then pointwise; the activation comes first."""

    def pair(n: int, channels: int) -> nn.Sequential:
        depthwise = nn.Conv2d(n, n, 3, padding=1, groups=n, bias=False)
        return nn.Sequential(nn.ReLU(), depthwise, nn.Conv2d(n, channels, 1, bias=False), nn.BatchNorm2d(channels))

    body = nn.Sequential(pair(8, 16), pair(16, 16), nn.MaxPool2d(3, 2, padding=1))
    skip = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
    return nn.Sequential(conv_bn(3, 8), Residual(body, skip), Residual(pair(16, 16)), head(16)), image(3, 12, 12)


class DenseBlock(nn.Module):
    """Every layer sees the channels of all layers before."""

    def __init__(self, n: int, growth: int, n_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(n + i * growth),
                nn.ReLU(),
                nn.Conv2d(n + i * growth, growth, 3, padding=1, bias=False),
            )
            for i in range(n_layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input's channels and those of all layers."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


@family
def densenet() -> tuple[nn.Module, torch.Tensor]:
    """Two dense blocks with a transition between them."""
    transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1, bias=False), nn.AvgPool2d(2))
    end = nn.Sequential(nn.BatchNorm2d(22), nn.ReLU(), head(22))
    return nn.Sequential(conv_bn(3, 8), DenseBlock(8, 4, 3), transition, DenseBlock(10, 4, 3), end), image(3, 10, 10)


class Branches(nn.Module):
    """The same input through several branches, their channels side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Channels of all branches."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


@family
def inception() -> tuple[nn.Module, torch.Tensor]:
    """Branches of several kernels and a pooling branch."""

    def mixed(n: int) -> Branches:
        asymmetric = nn.Sequential(nn.Conv2d(n, 4, (1, 3), padding=(0, 1)), nn.ReLU())
        pooled = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), conv_bn(n, 4, 1))
        return Branches(conv_bn(n, 4, 1), nn.Sequential(conv_bn(n, 4, 1), conv_bn(4, 6, 3)), asymmetric, pooled)

    return nn.Sequential(conv_bn(3, 6), mixed(6), nn.MaxPool2d(3, 2), mixed(18), head(18)), image(3, 9, 9)


@family
def squeezenet() -> tuple[nn.Module, torch.Tensor]:
    """Fire modules, and a convolution as classifier."""

    def fire(n: int) -> nn.Sequential:
        squeeze = nn.Sequential(nn.Conv2d(n, 4, 1), nn.ReLU(inplace=True))
        expand = [nn.Sequential(nn.Conv2d(4, 8, k, padding=k // 2), nn.ReLU(inplace=True)) for k in (1, 3)]
        return nn.Sequential(squeeze, Branches(*expand))

    stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True))
    end = nn.Sequential(nn.Conv2d(16, 5, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten())
    return nn.Sequential(stem, fire(8), fire(16), end), image(3, 18, 18)


class ShuffleUnit(nn.Module):
    """Half of the channels pass; the halves are shuffled afterwards."""

    def __init__(self, n: int) -> None:
        super().__init__()
        half = n // 2
        depthwise = nn.Sequential(nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False), nn.BatchNorm2d(half))
        self.branch = nn.Sequential(conv_bn(half, half, 1), depthwise, conv_bn(half, half, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the input's shape."""
        kept, changed = x.chunk(2, dim=1)
        x = torch.cat((kept, self.branch(changed)), dim=1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return x.view(batch, channels, height, width)


@family
def shufflenet() -> tuple[nn.Module, torch.Tensor]:
    """Channels split and shuffled by views."""
    return nn.Sequential(conv_bn(3, 12), ShuffleUnit(12), nn.MaxPool2d(2), ShuffleUnit(12), head(12)), image(3, 8, 8)


class UNet(nn.Module):
    """One level up by a transposed convolution, one by interpolation; skip connections by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.bottom = conv_bn(1, 6), conv_bn(6, 8), conv_bn(8, 12)
        self.up = nn.ConvTranspose2d(12, 8, 2, stride=2)
        self.after, self.last, self.end = conv_bn(16, 8), conv_bn(14, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two values for every pixel."""
        first = self.first(x)
        second = self.second(functional.max_pool2d(first, 2))
        x = self.up(self.bottom(functional.max_pool2d(second, 2)))
        x = self.after(torch.cat([x, second], 1))
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        return self.end(self.last(torch.cat([x, first], 1)))


@family
def unet() -> tuple[nn.Module, torch.Tensor]:
    """An image to an image."""
    return UNet(), image(1, 16, 16)


@family
def autoencoder_transposed() -> tuple[nn.Module, torch.Tensor]:
    """Strided convolutions down to a code, transposed ones (with output padding) back to the image."""
    down = (nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU())
    code = (nn.Flatten(), nn.Linear(128, 10), nn.Linear(10, 128), nn.ReLU(), nn.Unflatten(1, (8, 4, 4)))
    up = (
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 1, 4, stride=2, padding=1),
        nn.Sigmoid(),
    )
    return nn.Sequential(*down, *code, *up), image(1, 16, 16)


@family
def upsample_pixelshuffle() -> tuple[nn.Module, torch.Tensor]:
    """Super-resolution: PixelShuffle beside bilinear interpolation."""
    body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1), nn.PixelShuffle(2))
    return Residual(body, nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)), image(1, 8, 8)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7 x 7, LayerNorm over channels last, GELU, layer scale."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(n, n, 7, padding=3, groups=n), nn.LayerNorm(n, eps=1e-6)
        self.up, self.down, self.scale = nn.Linear(n, 4 * n), nn.Linear(4 * n, n), parameter(n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values of the input's shape."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(functional.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


@family
def convnext() -> tuple[nn.Module, torch.Tensor]:
    """A stem of patches and two blocks."""
    end = nn.Sequential(Apply(lambda x: x.mean((-2, -1))), nn.LayerNorm(12), nn.Linear(12, 5))
    return nn.Sequential(nn.Conv2d(3, 12, 4, stride=4), ConvNeXtBlock(12), ConvNeXtBlock(12), end), image(3, 16, 16)


@family
def group_norm_net() -> tuple[nn.Module, torch.Tensor]:
    """GroupNorm, and GroupNorm of one group."""
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.GroupNorm(1, 8))
    return nn.Sequential(*layers, nn.SiLU(), head(8)), image(3, 8, 8)


@family
def instance_norm_net() -> tuple[nn.Module, torch.Tensor]:
    """InstanceNorm without parameters, with them, and with running statistics; reflection padding."""
    first = (nn.ReflectionPad2d(1), nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6), nn.ReLU())
    second = (nn.Conv2d(6, 6, 3, padding=1), nn.InstanceNorm2d(6, affine=True), nn.LeakyReLU(0.2))
    third = (nn.Conv2d(6, 6, 1), nn.InstanceNorm2d(6, affine=True, track_running_stats=True), nn.Tanh())
    return nn.Sequential(*first, *second, *third, head(6)), image(3, 8, 8)


@family
def conv3d() -> tuple[nn.Module, torch.Tensor]:
    """Volumes: convolution, BatchNorm, both kinds of pooling."""
    first = (nn.Conv3d(1, 4, 3, padding=1, bias=False), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2))
    second = (nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1)), nn.ReLU(), nn.AvgPool3d(2), nn.Flatten())
    return nn.Sequential(*first, *second, nn.Linear(6, 5)), image(1, 4, 4, 4)


class GlobalMaxPool(nn.Module):
    """The largest value of every channel, two ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.linear = nn.Conv2d(2, 8, 3), nn.AdaptiveMaxPool2d(1), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Five values."""
        x = torch.relu(self.conv(x))
        return self.linear(torch.cat([x.amax(dim=(2, 3)), self.pool(-x).flatten(1)], 1))


@family
def global_max_pool() -> tuple[nn.Module, torch.Tensor]:
    """``amax`` over positions and adaptive max pooling."""
    return GlobalMaxPool(), image(2, 7, 7)


class DataNormaliser(nn.Module):
    """Subtracts a mean and divides by a deviation that it keeps as buffers."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The body's values of the normalised input."""
        return self.body((x - self.mean) / self.std)


@family
def data_normaliser() -> tuple[nn.Module, torch.Tensor]:
    """A network that takes raw pixels."""
    return DataNormaliser(nn.Sequential(conv_bn(3, 8), nn.MaxPool2d(2), head(8))), image(3, 8, 8)


class TwoHeads(nn.Module):
    """A detector: class probabilities and a box from the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), prelu(8), nn.MaxPool2d(2, 2, ceil_mode=True))
        self.classes, self.box = nn.Conv2d(8, 2, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Box and probabilities."""
        x = self.body(x)
        return self.box(x), functional.softmax(self.classes(x), dim=1)


@family
def two_heads() -> tuple[nn.Module, torch.Tensor]:
    """Two outputs."""
    return TwoHeads(), signal(3, 11, 11)
