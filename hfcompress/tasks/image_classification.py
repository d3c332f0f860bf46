"""Image classification: one class an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfcompress.errors import DataError, Fault
from hfcompress.label_kinds import holds_lists, holds_numbers
from hfcompress.labels import encode_classes
from hfcompress.tasks.base import Column, Labelled, LabelOptions, Task
from hfcompress.tasks.images import ImageCollator, images_from_paths, is_no_image
from hfcompress.tasks.text_classification import is_right

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from datasets import Dataset
    from torch import Tensor
    from transformers import PretrainedConfig

    from hfcompress.tasks.base import Collator

DEFAULT_SIZE = 224
"""Height and width of the images of architectures whose config does not say one, such as ResNet."""


class ImageClassification(Task):
    """One class an image."""

    def open_inputs(self, rows: Dataset, folder: Path) -> Dataset:
        """Take a column of file names for images."""
        return images_from_paths(rows, "image", folder)

    def encode_labels(self, parts: dict[str, Dataset], options: LabelOptions) -> Labelled:
        """Turn labels into class numbers."""
        faults = []
        for part, rows in parts.items():
            kind = "lists" if holds_lists(rows["labels"]) else "numbers" if holds_numbers(rows["labels"]) else ""
            if kind:
                problem = f"the labels of the {part} rows are {kind}: an image has one class."
                faults.append(Fault("labels", problem, "Pass --label-column for the column with the class."))
        if faults:
            raise DataError(*faults)
        return Labelled(*encode_classes(parts, options.names, options.model_names))

    def encode(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Keep the images as they are: the collator opens and prepares those of its batch."""
        return rows.select_columns([name for name in rows.column_names if name in ("image", "labels")])

    def collator(self, processor: Any) -> Collator:
        """Open, resize and normalise with the image processor."""
        return ImageCollator(processor)

    def stratify(self, rows: Dataset) -> list[str] | None:
        """Return each row's class."""
        return [str(label) for label in rows["labels"]]

    def metrics(self, answers: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """Score logits `(rows, classes)`: accuracy and macro-averaged F1."""
        from hfcompress.tasks.scores import classification

        return classification(answers, references)

    def row_scores(self, answers: np.ndarray, references: np.ndarray) -> np.ndarray | None:
        """Score each row: 1 where its class is right."""
        return is_right(answers, references)

    def example_inputs(self, config: PretrainedConfig, batch_size: int, length: int) -> dict[str, Tensor]:
        """Return random pixels of the model's size; `length` says nothing here."""
        import torch

        size = getattr(config, "image_size", None) or DEFAULT_SIZE
        height, width = (size, size) if isinstance(size, int) else size
        generator = torch.Generator().manual_seed(0)
        shape = (batch_size, getattr(config, "num_channels", 3), height, width)
        return {"pixel_values": torch.rand(shape, generator=generator)}


TASK = ImageClassification(
    name="image-classification",
    sample='"photo.png"',
    auto_model="AutoModelForImageClassification",
    ort_model="ORTModelForImageClassification",
    heads=("ForImageClassification",),
    columns=(
        Column("image", ("image", "img", "picture"), is_missing=is_no_image, what="image that opens"),
        Column("labels", ("label", "labels", "target", "class", "category", "fine_label")),
    ),
    main_metric="accuracy",
    names_labels=True,
    processor="image_processor",
)
