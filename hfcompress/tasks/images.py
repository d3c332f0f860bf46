"""What tasks on images share: images from paths, finding those that do not open, and batches of pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import Dataset
    from PIL.Image import Image
    from transformers import BaseImageProcessor


def images_from_paths(rows: Dataset, column: str, folder: Path) -> Dataset:
    """Turn a column of file names into images that are read when they are used; other columns stay as they are.

    Args:
        rows: Rows as they were read.
        column: The column with file names, or with images.
        folder: What relative names are relative to.
    """
    from datasets import Image, Value

    feature = rows.features[column]
    if not isinstance(feature, Value) or feature.dtype not in ("string", "large_string"):
        return rows
    paths = [str(folder / name) if name and name.strip() else None for name in rows[column]]
    place = rows.column_names.index(column)
    names = rows.column_names
    rows = rows.remove_columns(column).add_column(column, paths).cast_column(column, Image())
    return rows.select_columns([*names[:place], column, *names[place + 1 :]])


def undecoded(rows: Dataset) -> Dataset:
    """Return rows whose images are a path or bytes, so that looking at them opens none."""
    from datasets import Image

    for name, feature in rows.features.items():
        if isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
    return rows


def is_no_image(value: object) -> bool:
    """Say whether a value is no image, or one that cannot be read to its end.

    Args:
        value: What an `undecoded` row has: a dict with `path` and `bytes`; or an image.
    """
    from datasets import Image

    if not isinstance(value, dict):
        return not hasattr(value, "tobytes")
    try:
        Image().decode_example(value).load()
    # Pillow raises OSError, SyntaxError, ValueError and others of its own, as each format's reader does.
    except Exception:
        return True
    return False


def channels_of(processor: BaseImageProcessor) -> int:
    """Return how many channels a processor normalises: 3, or 1 where its mean is one number."""
    mean = getattr(processor, "image_mean", None)
    return len(mean) if isinstance(mean, (list, tuple)) else 3


def to_array(image: Image, channels: int) -> np.ndarray:
    """Return an image of any mode as bytes `(height, width, channels)`, in colour or in grey."""
    import numpy as np
    from PIL.Image import fromarray

    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut at 255 instead of scaling
        image = fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[:, :, None] if channels == 1 else array


class ImageCollator:
    """Opens and prepares the images of a batch.

    Images are prepared when their batch is made, not kept: prepared ones take hundreds of kilobytes each.

    Args:
        processor: Resizes, crops and normalises.
    """

    def __init__(self, processor: BaseImageProcessor) -> None:
        self.processor = processor

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return tensors: `pixel_values` `(batch, channels, height, width)`, and `labels` `(batch,)` if there are."""
        import torch

        channels = channels_of(self.processor)
        images = [to_array(row["image"], channels) for row in rows]
        # The format is said, for an image three pixels high could be taken for one with its channels first.
        batch = dict(self.processor(images, input_data_format="channels_last", return_tensors="pt"))
        batch = {"pixel_values": batch["pixel_values"].to(torch.float32)}
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch
