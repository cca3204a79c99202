"""Networks and a data set of your own, named `module:object`: a wide network teaches a narrow one.

    python examples/own_network.py [FOLDER]

The images are made here: stripes, whose direction is the class. docs/python-api.md explains each part.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from mergenet import Architecture, Config, ImageData, Spec, Split, image_data, train_run
from mergenet.config import DataConfig


def cnn(width: int) -> Architecture:
    """Images (N, 3, S, S) -> logits (N, num_outputs). Layers that can take part: 0 and 2, the convolutions, and 6."""

    def build(_config: object, spec: Spec) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, spec.num_outputs),
        )

    return Architecture(build)  # for images and classes, which is the default


wide, narrow = cnn(32), cnn(8)


def load_stripes(config: DataConfig) -> ImageData:
    """Horizontal, vertical and diagonal stripes under noise; the seed is that of the split."""
    generator = torch.Generator().manual_seed(config.split_seed)
    y, x = torch.meshgrid(torch.arange(config.image_size), torch.arange(config.image_size), indexing="ij")
    patterns = torch.stack([torch.sin(1.5 * t) for t in (y, x, x + y)])

    def split(count: int) -> Split:
        labels = torch.randint(0, 3, (count,), generator=generator)
        noise = torch.randn((count, 3, *y.shape), generator=generator)
        return Split((128 + 30 * patterns[labels][:, None] + 40 * noise).clamp(0, 255).byte(), labels)

    return image_data(split(600), split(200), split(200), ("horizontal", "vertical", "diagonal"))


def configuration() -> Config:
    network = {
        "data": {"name": "own_network:load_stripes", "image_size": 16},
        "batch_size": 32,
        "augment": False,
        "optimizer": {"lr": 0.1},
    }
    return Config.model_validate(
        {
            "name": "own-network",
            "epochs": 4,
            "threads": 1,
            "device": "cpu",
            "source": {**network, "model": {"name": "own_network:wide"}},
            "target": {**network, "model": {"name": "own_network:narrow"}},
            "transfer": {
                "t_cycle": 4,
                "pairs": [{"source": "0", "target": "0"}],  # the first convolutions, which see the same pixels
                "adapter": {"kind": "linear", "rank": 8, "gate": 0.1},
            },
        }
    )


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "runs/own-network"
    for result in train_run(configuration(), Path(folder)):
        print(f"epoch {result.epoch}  val top1 {100 * result.metrics['target_val_top1']:.1f} %")
    print("records:", folder)
