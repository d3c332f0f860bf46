"""`Seq2SeqCompressionTrainer`: transformers' Seq2SeqTrainer, which evaluates by generating, with a teacher."""

from dataclasses import dataclass

from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from hfcompress.training.arguments import CompressionArguments
from hfcompress.training.trainer import CompressionMixin


@dataclass
class Seq2SeqCompressionArguments(CompressionArguments, Seq2SeqTrainingArguments):
    """`CompressionArguments` with those on generation: `predict_with_generate`, `generation_max_length` and so on."""


class Seq2SeqCompressionTrainer(CompressionMixin, Seq2SeqTrainer):
    """transformers' `Seq2SeqTrainer` with a teacher; see `CompressionMixin`.

    With `predict_with_generate` the student alone generates, on the columns that it takes.

    Example:
        >>> args = Seq2SeqCompressionArguments("out", predict_with_generate=True)  # doctest: +SKIP
        >>> trainer = Seq2SeqCompressionTrainer(student, args, train_dataset=rows, teacher="my/t5")  # doctest: +SKIP
    """
