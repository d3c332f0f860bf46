"""What the tests of kernels share: a convolution, and what was seen of it on smooth random images."""

import torch
from torch import nn
from torch.nn import functional

from hfcompress.factorization.patches import Seen, patches_of


def smooth(images=32, channels=6, size=9, seed=0):
    """Random images whose neighbours are alike, and whose channels are."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(images, channels, size, size, generator=generator)
    mixed = torch.randn(channels, channels, generator=generator) * torch.logspace(0, -1.5, channels)[:, None]
    return functional.avg_pool2d(torch.einsum("bchw,cd->bdhw", values, mixed), 3, 1, 1) + 0.2


def drawn(outputs=8, inputs=6, seed=0, **options):
    torch.manual_seed(seed)
    return nn.Conv2d(inputs, outputs, **{"kernel_size": 3, "padding": 1, **options})


def places_of(layer, values):
    return torch.arange(layer(values)[0, 0].numel())


def seen_of(layer, values, gradient=None):
    """What was seen at all places, so that losses are exact."""
    patches = patches_of(layer, values, places_of(layer, values)).double()
    gradient = torch.eye(layer.out_channels, dtype=torch.float64) if gradient is None else gradient
    return Seen(patches.mean(0), patches.T.cov(correction=0), gradient, tuple(values.shape[2:]), len(patches))


def gradient_of(outputs, seed=3):
    """A random second moment."""
    root = torch.randn(outputs, outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T / outputs


@torch.no_grad()
def measured_loss(layer, chain, values, gradient):
    """Half of what the gradient's second moment makes of the outputs' difference, means apart, place by place."""
    off = (chain.double()(values.double()) - layer.double()(values.double())).movedim(1, -1).flatten(0, -2)
    layer.float(), chain.float()
    return 0.5 * float((gradient * off.T.cov(correction=0)).sum())
