"""What the package knows of a task; each task is one file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from datasets import Dataset
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.utils.generic import ModelOutput

    Collator = Callable[[list[dict[str, Any]]], dict[str, Tensor]]

_RELATIVE_SEGMENTS = ("xlnet",)
"""Architectures that read kinds of segments and have no number of them in their config."""

IGNORED = -100
"""The label of what is not to be learned: padding, and what nobody labelled."""


def reads_segments(config: PretrainedConfig) -> bool:
    """Say whether a model's answer depends on kinds of segments (`token_type_ids`) as its authors meant it to."""
    return (getattr(config, "type_vocab_size", 0) or 0) > 0 or config.model_type in _RELATIVE_SEGMENTS


def is_no_text(value: object) -> bool:
    """Say whether a value is no text, or an empty one."""
    return not isinstance(value, str) or not value.strip()


@dataclass(frozen=True)
class Column:
    """A column that a task reads.

    Args:
        ours: What the package calls it: `text`, `text_pair`, `image` or `labels`; its flag is `--text-column`, …
        usual: What it is usually called in data sets.
        required: Whether the task cannot do without it; otherwise it is read only when the user names it.
        is_missing: Says whether a value is none; not used for labels, which the task checks itself.
        what: What it holds, for messages.
    """

    ours: str
    usual: tuple[str, ...] = ()
    required: bool = True
    is_missing: Callable[[object], bool] = is_no_text
    what: str = "text"


@dataclass(frozen=True)
class LabelOptions:
    """What is known of labels before the data is read.

    Args:
        names: Label names in the order of their numbers, when the user gives them.
        model_names: The names that the model was trained with, in order; None for an untrained head.
        problem_type: transformers' name for the kind of classification, when the user or the model says it.
    """

    names: Sequence[str] | None = None
    model_names: tuple[str, ...] | None = None
    problem_type: str | None = None


@dataclass
class Labelled:
    """Rows whose labels are numbers.

    Args:
        parts: The rows, by `training` and `validation`.
        names: Label name by number; empty for a task whose labels have no names.
        problem_type: For the model's config; None when it says nothing.
    """

    parts: dict[str, Dataset]
    names: tuple[str, ...] = ()
    problem_type: str | None = None


@dataclass(frozen=True)
class Task:
    """One row a task: which classes load it, which columns it reads, how a batch is masked, how it is scored.

    The methods here are those of a task that gives one answer a text; a task overrides what differs.

    Args:
        name: The Hub's pipeline tag, which is also what users type.
        auto_model: The transformers auto class.
        ort_model: Optimum's ONNX Runtime class.
        heads: How the model classes of this task end.
        columns: The columns that it reads, the labels last.
        main_metric: The metric that tables show and comparisons use; higher is better, at most 1.
        default_loss: What is distilled unless the user says.
        names_labels: Whether its labels have names that belong to the model.
        has_task_loss: Whether its models compute a loss on labels.
        foreign_teachers: Whether a teacher may read other tokens than the student.
        processor: What turns its inputs into tensors: a `tokenizer` or an `image_processor`.
        label_columns: What its models call the labels.
        writes: Whether its models write texts that can be scored: it has `written`.
        sample: What transformers' `pipeline` is called with in an example, as Python; empty when it has none.
    """

    name: str = ""
    auto_model: str = "AutoModel"
    ort_model: str = "ORTModel"
    heads: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    main_metric: str = ""
    default_loss: str = "kl"
    names_labels: bool = False
    has_task_loss: bool = True
    foreign_teachers: bool = False
    processor: str = "tokenizer"
    label_columns: tuple[str, ...] = ("labels",)
    writes: bool = False
    sample: str = ""

    # Data.

    def open_inputs(self, rows: Dataset, folder: Path) -> Dataset:
        """Turn inputs that are file names into what the files hold.

        Args:
            rows: Our columns, as they were read.
            folder: What relative names are relative to.
        """
        return rows

    def encode_labels(self, parts: dict[str, Dataset], options: LabelOptions) -> Labelled:
        """Check the labels of all parts and turn them into what the model takes.

        Args:
            parts: `training` and `validation`, or `validation` alone.
            options: What is known of the labels.

        Raises:
            DataError: Labels are missing, of the wrong kind, or others than the model's; every such fault.
        """
        return Labelled(parts)

    def unknown_labels(self, rows: Dataset, known: Any) -> list[Any]:
        """Return what stands in the column `labels` of rows that nobody labelled, after `encode_labels`.

        Args:
            rows: Rows without labels.
            known: A label of a row that has one, to be alike in form.
        """
        return [IGNORED] * len(rows)

    def encode(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Turn rows into what one model reads, unpadded, with `labels` as the model takes them.

        Args:
            rows: Our columns, labels as `encode_labels` or `unknown_labels` left them.
            processor: The model's tokenizer or image processor.
            max_length: Cut to so many tokens; None means the tokenizer's own limit.

        Returns:
            One entry an example; a column `row` names the row where one row gives several, `row_mask` marks the tokens
            whose logits are compared where the labels alone do not say it.
        """
        raise NotImplementedError

    def collator(self, processor: Any) -> Collator:
        """Return what pads encoded rows into a batch."""
        raise NotImplementedError

    def stratify(self, rows: Dataset) -> list[str] | None:
        """Return a class for each row, to hold out each in the same proportion; None where there are none."""
        return None

    # Training: what of a batch is compared, and what counts.

    def prepare_inputs(self, batch: Mapping[str, Any], config: PretrainedConfig) -> dict[str, Any]:
        """Return a batch as one model takes it, for example with what its decoder starts from.

        A model without kinds of segments gets none, though tokenizers are asked for them: GPT-2 would add the embedding
        of a word to every position.
        """
        return {name: value for name, value in batch.items() if name != "token_type_ids" or reads_segments(config)}

    def rows(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> tuple[Tensor | None, Tensor | None]:
        """Return what is compared: logits `(rows, classes)`, and the right class of each row, `(rows,)`, or None.

        It only selects and reshapes, so that it serves for hidden states `(…, width)` in the place of logits too.
        """
        logits, labels = outputs.get("logits"), batch.get("labels")
        whole = labels is not None and logits is not None and labels.ndim == 1 and not labels.is_floating_point()
        return logits, labels if whole else None

    def count_rows(self, batch: Mapping[str, Any]) -> Tensor:
        """Return how many rows of logits a batch gives, a scalar."""
        import torch

        first = next(iter(batch.values()))
        return torch.tensor(len(first), device=first.device)

    def count_labels(self, batch: Mapping[str, Any]) -> Tensor:
        """Return how many labels the mean of the task's loss is taken over, a scalar."""
        labels = batch.get("labels")
        if labels is None:
            return self.count_rows(batch) * 0
        return labels.ne(IGNORED).sum()

    def loss_is_ours(self, batch: Mapping[str, Any]) -> bool:
        """Say whether a batch holds unknown labels that the model cannot ignore itself, as it does -100."""
        return False

    def known_loss(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> Tensor:
        """Return the mean loss over the labels that are known, where `loss_is_ours`."""
        raise NotImplementedError

    # Evaluation.

    def answers(self, outputs: ModelOutput, batch: Mapping[str, Any]) -> np.ndarray:
        """Return what is kept of the model's answer to each example: one array each, which may differ in length."""
        return outputs["logits"].float().cpu().numpy()

    def finish(self, answers: list[np.ndarray], encoded: Dataset, rows: Dataset, processor: Any) -> np.ndarray:
        """Turn the answers to all encoded examples, in their order, into one entry a row, `(rows, numbers)`."""
        import numpy as np

        return np.stack(answers)

    def references(self, rows: Dataset) -> np.ndarray:
        """Return what the answers are scored against, one entry a row."""
        import numpy as np

        return np.asarray(rows["labels"])

    def metrics(self, answers: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """Score answers `(rows, numbers)` against references."""
        raise NotImplementedError

    def row_scores(self, answers: np.ndarray, references: np.ndarray) -> np.ndarray | None:
        """Score each row, `(rows,)`, where the mean of that is the main metric; None where it is no mean."""
        return None

    def main_of(self, metrics: Mapping[str, float]) -> str:
        """Return the metric that tables show."""
        return self.main_metric

    def for_metric(self, answers: np.ndarray, references: np.ndarray) -> tuple[list[Any], list[Any]]:
        """Return predictions and references as metrics of the `evaluate` library take them.

        Here: class ids; of several labels at once a 0 or 1 for each; numbers where there is one a row.
        """
        if references.ndim == 2:
            return (answers > 0).astype(int).tolist(), (references > 0.5).astype(int).tolist()
        predicted = answers.argmax(axis=-1) if answers.shape[1] > 1 else answers[:, 0]
        return predicted.tolist(), references.tolist()

    def written(self, model: PreTrainedModel, batch: Mapping[str, Any], processor: Any) -> np.ndarray:
        """Return scores of what the model writes for a batch, `(batch, scores)`, to stand beside its answers."""
        raise NotImplementedError

    # Measuring.

    def example_inputs(self, config: PretrainedConfig, batch_size: int, length: int) -> dict[str, Tensor]:
        """Return inputs of a given size with random contents, for timing and counting."""
        import torch

        # Low ids are special tokens, and padding among them; position embeddings may keep two for themselves.
        low = min(1000, config.vocab_size // 2)
        length = max(1, min(length, (getattr(config, "max_position_embeddings", None) or length + 2) - 2))
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(low, config.vocab_size, (batch_size, length), generator=generator)
        if getattr(config, "is_encoder_decoder", False) and config.eos_token_id is not None:
            tokens[:, -1] = config.eos_token_id  # where an encoder-decoder classifies a text
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
