"""Random crop and horizontal flip of a whole batch, in one gather on the batch's device."""

import torch
from torch import Tensor


def augment(images: Tensor, padding: int | None = None) -> Tensor:
    """Shift each image by up to `padding` pixels in both directions and mirror half of them.

    As the usual crop from a padded image, the border repeated outwards (not black: emoji stand on white).
    images: (N, C, H, W), any dtype. padding: pixels, default H // 8. The draws come from torch's global CPU
    generator, three a batch, whatever the device, so they are the same on every device.
    """
    n = len(images)
    padding = images.shape[2] // 8 if padding is None else padding
    down = torch.randint(-padding, padding + 1, (n,)).to(images.device)
    right = torch.randint(-padding, padding + 1, (n,)).to(images.device)
    mirrored = (torch.rand(n) < 0.5).to(images.device)
    return shift_and_flip(images, down, right, mirrored)


def shift_and_flip(images: Tensor, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
    """Pixel (y, x) of the result is pixel (y + down, x + right), clamped to the image, then mirrored.

    images: (N, C, H, W); down, right: int64 (N,), pixels; mirrored: bool (N,).
    """
    n, channels, height, width = images.shape
    device = images.device
    rows = (torch.arange(height, device=device) + down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + right[:, None]).clamp(0, width - 1)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    item = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    return images[item, channel, rows[:, None, :, None], columns[:, None, None, :]]
