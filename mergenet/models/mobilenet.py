"""MobileNetV2 from torchvision's blocks; the layers are named as torchvision names them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mergenet.models._torchvision import Later
from mergenet.models.architecture import image_classifier

tv = Later("torchvision.models.mobilenetv2")
ops = Later("torchvision.ops.misc")

Setting = Sequence[tuple[int, int, int, int]]  # of each stage: expansion, output channels, blocks, first stride

_FULL: Setting = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_SMALL: Setting = ((3, 24, 1, 2), (3, 32, 2, 2), (3, 64, 2, 2))


@image_classifier
def mobilenetv2(num_outputs: int, stem: str) -> nn.Module:
    """torchvision's MobileNetV2; the cifar stem does not stride in the first convolution and the 24-wide stage.

    A 32x32 image thus ends as a 4x4 map; with the imagenet stem a 224x224 image ends as 7x7.
    """
    setting = [list(stage) for stage in _FULL]
    if stem == "cifar":
        setting[1][3] = 1
    model: nn.Module = tv.MobileNetV2(num_classes=num_outputs, inverted_residual_setting=setting)
    if stem == "cifar":
        first = model.get_submodule("features.0.0")
        assert isinstance(first, nn.Conv2d)
        first.stride = (1, 1)
    return model


class SmallMobileNetV2(nn.Module):
    """Inverted residuals as in MobileNetV2 with a narrow first and last convolution, which torchvision fixes.

    images (N, 3, H, W) float -> logits (N, num_outputs). Layers: features.0 (first convolution), features.1
    and on (inverted residuals), features.<last> (1x1 convolution), classifier.1.
    """

    def __init__(self, first: int, setting: Setting, last: int, num_outputs: int, stem: str) -> None:
        super().__init__()
        features: list[nn.Module] = [_conv(3, first, kernel_size=3, stride=1 if stem == "cifar" else 2)]
        width = first
        for expansion, channels, blocks, stride in setting:
            for i in range(blocks):
                features.append(tv.InvertedResidual(width, channels, stride if i == 0 else 1, expansion))
                width = channels
        features.append(_conv(width, last, kernel_size=1, stride=1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, num_outputs))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(self.features(images), 1)
        return self.classifier(torch.flatten(x, 1))


@image_classifier
def mobilenetv2_small(num_outputs: int, stem: str) -> nn.Module:
    """Small enough to train an epoch in seconds on one CPU core: the usual target of small presets."""
    return SmallMobileNetV2(16, _SMALL, 128, num_outputs, stem)


def _conv(inputs: int, outputs: int, kernel_size: int, stride: int) -> nn.Module:
    block: nn.Module = ops.Conv2dNormActivation(
        inputs, outputs, kernel_size, stride, activation_layer=nn.ReLU6, norm_layer=nn.BatchNorm2d
    )
    return block
