"""Residual networks from torchvision's blocks; the layers are named as torchvision names them."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mergenet.models._torchvision import Later
from mergenet.models.architecture import image_classifier

tv = Later("torchvision.models.resnet")


def _resnet(block: str, layers: list[int], num_outputs: int, stem: str) -> nn.Module:
    """torchvision's ResNet; the cifar stem is a 3x3 convolution of stride 1 and no pooling (32x32 -> 32x32)."""
    model: nn.Module = tv.ResNet(getattr(tv, block), layers, num_classes=num_outputs)
    if stem == "cifar":
        conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's own
        model.conv1, model.maxpool = conv1, nn.Identity()
    return model


resnet18 = image_classifier(partial(_resnet, "BasicBlock", [2, 2, 2, 2]))
resnet34 = image_classifier(partial(_resnet, "BasicBlock", [3, 4, 6, 3]))
resnet50 = image_classifier(partial(_resnet, "Bottleneck", [3, 4, 6, 3]))


class SmallResNet(nn.Module):
    """Three stages of basic blocks, all but the first halving the image: the CIFAR form of ResNet.

    images (N, 3, H, W) float -> logits (N, num_outputs). Layers: conv1, bn1, layer1 to layer3, fc.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], num_outputs: int, stem: str) -> None:
        super().__init__()
        self.conv1 = _stem_conv(widths[0], stem)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if stem == "cifar" else nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(widths[0], widths[0], blocks[0], stride=1)
        self.layer2 = _stage(widths[0], widths[1], blocks[1], stride=2)
        self.layer3 = _stage(widths[1], widths[2], blocks[2], stride=2)
        self.fc = nn.Linear(widths[2], num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


# small enough to train beside another network on two CPU cores: the usual source of small presets
resnet_small = image_classifier(partial(SmallResNet, (24, 48, 96), (1, 1, 1)))


def _stem_conv(width: int, stem: str) -> nn.Conv2d:
    if stem == "cifar":
        return nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
    return nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or inputs != width:
        shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))
    first = tv.BasicBlock(inputs, width, stride, shortcut)
    return nn.Sequential(first, *(tv.BasicBlock(width, width) for _ in range(blocks - 1)))
