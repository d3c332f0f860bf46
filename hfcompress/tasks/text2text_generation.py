"""Text-to-text generation: a target text is written from a source text, as summaries and translations are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfcompress.errors import DataError, Fault, ModelError
from hfcompress.tasks.base import IGNORED, Column, Labelled, LabelOptions, is_no_text
from hfcompress.tasks.language_modeling import LanguageModeling, TokenCollator
from hfcompress.tasks.text import truncation

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from hfcompress.tasks.base import Collator

_WRITTEN = 128

_LANGUAGE_LAST = ("mbart", "plbart")
"""Families whose decoder starts from the language token, which ends the labels."""


class Text2TextGeneration(LanguageModeling):
    """An encoder reads the source, a decoder writes the target.

    Accuracy, cross entropy and perplexity are of each target token given the right ones before it, from one forward
    pass. `written` adds ROUGE-L of what the model writes by itself.
    """

    def encode_labels(self, parts: dict[str, Dataset], options: LabelOptions) -> Labelled:
        """Check that every target is a text.

        Raises:
            DataError: Some are not.
        """
        faults = []
        for part, rows in parts.items():
            bad = [index for index, target in enumerate(rows["labels"]) if is_no_text(target)]
            if bad:
                which = ", ".join(map(str, bad[:5])) + (" …" if len(bad) > 5 else "")
                problem = f"{len(bad)} of the {len(rows)} {part} rows have no target text (rows {which}, from 0)."
                faults.append(Fault("labels", problem, "Fill them, or name the right column with --label-column."))
        if faults:
            raise DataError(*faults)
        return Labelled(parts)

    def unknown_labels(self, rows: Dataset, known: Any) -> list[Any]:
        """Refuse rows without targets: a teacher scores the tokens of a target, and there is none.

        Raises:
            DataError: Always.
        """
        fix = "Let the teacher write their targets first, and train on both files."
        raise DataError(Fault("unlabeled_dataset", "rows without a target text teach this task nothing.", fix))

    def encode(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Tokenize sources and, in `labels`, targets; both are cut to `max_length` tokens or the tokenizer's limit."""
        options = {**truncation(processor, max_length), "return_token_type_ids": False}

        def tokens(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            sources, targets = processor(batch["text"], **options), processor(text_target=batch["labels"], **options)
            read = {name: sources[name] for name in ("input_ids", "attention_mask")}
            return {**read, "labels": targets["input_ids"]}

        return rows.map(tokens, batched=True, remove_columns=rows.column_names, desc="tokenizing")

    def collator(self, processor: Any) -> Collator:
        """Pad at the end, labels with what is ignored."""
        return TokenCollator(processor)

    def prepare_inputs(self, batch: Mapping[str, Any], config: PretrainedConfig) -> dict[str, Any]:
        """Return the batch with what the decoder reads: the labels one place later, behind the model's start token.

        Models make the same of labels themselves, but a teacher gets none.

        Raises:
            ModelError: The config names no start token.
        """
        if "labels" not in batch or "decoder_input_ids" in batch:
            return dict(batch)
        return {**batch, "decoder_input_ids": shift_right(batch["labels"], config)}

    def written(self, model: PreTrainedModel, batch: Mapping[str, Any], processor: Any) -> np.ndarray:
        """Return ROUGE-L of what the model writes, always taking the likeliest token, `(batch, 1)`.

        At most 128 tokens are written. The target is compared as it was encoded, so as it was cut.
        """
        import numpy as np

        from hfcompress.tasks.rouge import rouge_l

        places = getattr(model.config, "max_position_embeddings", None) or _WRITTEN + 1
        generate: Any = model.generate
        tokens = generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=min(_WRITTEN, places - 1),
            num_beams=1,
            do_sample=False,
        )
        ours, wanted = (_texts(processor, ids) for ids in (tokens, batch["labels"]))
        return np.array([[rouge_l(*pair)] for pair in zip(ours, wanted, strict=True)])

    def metrics(self, answers: np.ndarray, references: np.ndarray) -> dict[str, float]:
        """Score the sums `(rows, 3)` over all target tokens; the mean of ROUGE-L, where it is a fourth number."""
        metrics = super().metrics(answers, references)
        return metrics if answers.shape[1] == 3 else {**metrics, "rouge_l": float(answers[:, 3].mean())}

    def example_inputs(self, config: PretrainedConfig, batch_size: int, length: int) -> dict[str, Tensor]:
        """Return random sources, and targets of the same length."""
        inputs = super().example_inputs(config, batch_size, length)
        return {**inputs, "decoder_input_ids": inputs["input_ids"].clone()}


def shift_right(labels: Tensor, config: PretrainedConfig) -> Tensor:
    """Return what a decoder reads while it writes labels `(batch, seq)`: the start token, and all labels but the last.

    Raises:
        ModelError: The config names no start token.
    """
    import torch

    padding = config.pad_token_id if config.pad_token_id is not None else 0
    tokens = labels.masked_fill(labels == IGNORED, padding)
    if config.model_type in _LANGUAGE_LAST:
        last = tokens.ne(padding).sum(1, keepdim=True) - 1
        start = tokens.gather(1, last.clamp(min=0))
    else:
        number = getattr(config, "decoder_start_token_id", None)
        if number is None:
            raise ModelError(Fault("config", "names no decoder_start_token_id.", "Set it as the model was trained."))
        start = tokens.new_full((len(tokens), 1), number)
    return torch.cat([start, tokens[:, :-1]], dim=1)


def _texts(tokenizer: PreTrainedTokenizerBase, ids: Tensor) -> list[str]:
    """Return tokens as texts, special tokens left out."""
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return tokenizer.batch_decode(ids.masked_fill(ids == IGNORED, padding), skip_special_tokens=True)


TASK = Text2TextGeneration(
    name="text2text-generation",
    writes=True,
    auto_model="AutoModelForSeq2SeqLM",
    ort_model="ORTModelForSeq2SeqLM",
    heads=("ForConditionalGeneration",),
    columns=(
        Column("text", ("text", "document", "article", "source", "dialogue", "input")),
        Column("labels", ("summary", "target", "highlights", "output", "labels"), what="target text"),
    ),
    main_metric="accuracy",
)
