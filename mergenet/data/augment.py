"""Random crop and horizontal flip of a whole batch, in one gather on the batch's device."""

import torch
from torch import Tensor


def augment(images: Tensor, outside: int = 0, padding: int | None = None) -> Tensor:
    """Shift each image by up to `padding` pixels in both directions and mirror half of them.

    As the usual random crop from a padded image (of CIFAR: 32 from 40), before normalisation.
    images: (N, C, H, W), any dtype. outside: value of the padding, 0 is black. padding: pixels, default H // 8.
    The draws come from torch's global CPU generator, three a batch, whatever the device, so they are the same on
    every device.
    """
    n = len(images)
    padding = images.shape[2] // 8 if padding is None else padding
    down = torch.randint(-padding, padding + 1, (n,)).to(images.device)
    right = torch.randint(-padding, padding + 1, (n,)).to(images.device)
    mirrored = (torch.rand(n) < 0.5).to(images.device)
    return shift_and_flip(images, down, right, mirrored, outside)


def shift_and_flip(images: Tensor, down: Tensor, right: Tensor, mirrored: Tensor, outside: int = 0) -> Tensor:
    """Pixel (y, x) of the result is pixel (y + down, x + right), or `outside` where the image has none, then mirrored.

    images: (N, C, H, W); down, right: int64 (N,), pixels; mirrored: bool (N,).
    """
    n, channels, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device) + down[:, None]
    columns = torch.arange(width, device=device) + right[:, None]
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    rows, columns = rows[:, None, :, None], columns[:, None, None, :]
    item = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    shifted = images[item, channel, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return shifted.masked_fill(~inside, outside)
