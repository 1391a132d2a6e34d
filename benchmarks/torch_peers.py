"""The encoders of kfeat in plain PyTorch, as a user would write them: the peers to beat.

Channels last, autocast for bfloat16, `torch.optim.SGD`. The ResNets are torchvision's in names
and shapes; the auto-encoders are kfeat's graphs, layer by layer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


class Block(nn.Module):
    """A residual block: two convolutions of 3x3, or a bottleneck of 1x1, 3x3, 1x1."""

    def __init__(self, channels: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = width * (4 if bottleneck else 1)
        shapes = [(channels, width, 3, stride), (width, out, 3, 1)]
        if bottleneck:
            shapes = [(channels, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in shapes
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in shapes)
        self.shortcut = nn.Identity()
        if stride > 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for n, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = functional.relu(y, inplace=True) if n else y
            y = norm(convolution(y))
        return functional.relu(y + self.shortcut(x), inplace=True)


def resnet(arch: str, features: int = 128) -> nn.Sequential:
    """[N, 3, S, S] -> [N, features]."""
    bottleneck = arch == "resnet50"
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels = 64
    for stage, depth in enumerate(DEPTHS[arch]):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            layers.append(Block(channels, 64 * 2**stage, stride, bottleneck))
            channels = 64 * 2**stage * (4 if bottleneck else 1)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, features)]
    return nn.Sequential(*layers)


class AutoEncoder(nn.Module):
    """CAE1, or with ``skips`` the UNet: [N, 3, S, S] -> [N, 3, S, S], images in [0, 1]."""

    def __init__(self, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        self.down, self.up, self.merge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels, filters = 3, (32, 64, 128, 256)
        for width in filters:
            self.down.append(nn.Sequential(*_unit(channels, width, 2), *_unit(width, width, 1)))
            channels = width
        self.bottleneck = nn.Sequential(
            nn.Conv2d(channels, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32)
        )
        channels = 32
        for level in range(len(filters) - 1, -1, -1):
            width = filters[level] // 2
            up = nn.ConvTranspose2d(channels, width, 2, 2, bias=False)
            self.up.append(nn.Sequential(up, nn.BatchNorm2d(width), nn.ReLU(inplace=True)))
            joined = width + (filters[level - 1] if skips and level else 0)
            self.merge.append(nn.Sequential(*_unit(joined, width, 1)))
            channels = width
        self.colours = nn.Conv2d(channels, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, maps = x * 2 - 1, []
        for down in self.down:
            x = down(x)
            maps.append(x)
        x = self.bottleneck(x)
        for n, (up, merge) in enumerate(zip(self.up, self.merge, strict=True)):
            x = up(x)
            if self.skips and n < len(self.up) - 1:
                x = torch.cat([x, maps[len(self.up) - 2 - n]], 1)
            x = merge(x)
        return self.colours(x) * 0.5 + 0.5


def _unit(channels: int, width: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]


def training(
    arch: str,
    bfloat16: bool,
    size: int,
    batch: int,
    steps: int,
    optimizer: Callable[..., torch.optim.Optimizer],
) -> Callable[[], int]:
    """Return what takes ``steps`` training steps on random images; it returns their number."""
    images = torch.rand(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    supervised = arch.startswith("resnet")
    net = nn.Sequential(resnet(arch), nn.Linear(128, 10)) if supervised else None
    net = net or AutoEncoder(skips=arch == "unet")
    net = net.to(memory_format=torch.channels_last).train()
    learn = optimizer(net.parameters())

    def run() -> int:
        for _ in range(steps):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
                output = net(images)
                if supervised:
                    loss = functional.cross_entropy(output, labels)
                else:
                    loss = functional.mse_loss(output.float(), images)
            learn.zero_grad()
            loss.backward()
            learn.step()
        return steps * batch

    return run
