"""A loss of your own: a config, a class, a name. Then it is an option like any other."""

from dataclasses import dataclass

from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from hfcompress import CompressionArguments, CompressionTrainer, DistillationLoss, LossConfig, cut
from hfcompress.config import option
from hfcompress.registry import register


@dataclass
class HuberConfig(LossConfig):
    """Options of the loss; they are checked, and `help` shows in the documentation."""

    delta: float = option(1.0, help="differences beyond it count linearly")


@register("loss", "logit_huber", HuberConfig)
class LogitHuberLoss(DistillationLoss):
    """Huber loss on the logits: like the mean squared error, with outliers counted less."""

    def forward(self, student, teacher):
        """Return one value a row; the trainer does the averaging."""
        difference = (student.logits - teacher.logits).abs()
        small = difference.clamp(max=self.config.delta)
        return (small * (difference - small / 2)).mean(-1)


def main(teacher_name, texts, output_dir):
    tokenizer = AutoTokenizer.from_pretrained(teacher_name)
    teacher = AutoModelForSequenceClassification.from_pretrained(teacher_name)
    args = CompressionArguments(
        output_dir=output_dir, losses={"logit_huber": {"delta": 0.5}}, num_train_epochs=1, report_to="none"
    )
    rows = Dataset.from_dict(dict(tokenizer(texts, truncation=True)))
    collator = DataCollatorWithPadding(tokenizer)
    student = cut(teacher, [0])
    CompressionTrainer(student, args, teacher=teacher, train_dataset=rows, data_collator=collator).train()
    return student


if __name__ == "__main__":
    import sys

    main(sys.argv[1], ["A warm film.", "A dull film."] * 16, sys.argv[2])
