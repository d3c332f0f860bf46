"""The container: a checkpoint folder as one file, tensors stored by their entropy, every byte restored."""

from hfcompress.clustering.container.packing import PackReport, pack
from hfcompress.clustering.container.unpacking import UnpackReport, unpack

__all__ = ["PackReport", "UnpackReport", "pack", "unpack"]
