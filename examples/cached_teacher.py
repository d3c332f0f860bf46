"""A teacher's answers computed once, then two students trained from them: each costs what training it alone costs."""

import argparse
from pathlib import Path

from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from hfcompress import CompressionArguments, CompressionTrainer, cut
from hfcompress.training.caching import cache_teacher

LOSSES = {"kl": {"weight": 0.6, "temperature": 2}, "hidden_mse": 0.1, "task": 0.3}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--epochs", type=float, default=2)
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.teacher)
    rows = load_dataset("csv", data_files=options.data, split="train").class_encode_column("label")
    rows = rows.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
    parts = rows.train_test_split(test_size=0.1, seed=0)

    # Stopped and started again, it goes on where it was; finished, it is there at once.
    teacher = AutoModelForSequenceClassification.from_pretrained(options.teacher)
    answers = Path(options.output, "answers")
    cache_teacher(teacher, parts["train"], answers, processor=tokenizer, losses=LOSSES, progress=True)

    last = teacher.config.num_hidden_layers - 1
    for name, layers in {"half": list(range(1, last + 1, 2)), "two layers": [0, last]}.items():
        trainer = CompressionTrainer(
            model=cut(teacher, layers),
            teacher=answers,
            args=CompressionArguments(
                output_dir=str(Path(options.output, name)),
                num_train_epochs=options.epochs,
                learning_rate=1e-4,
                losses=LOSSES,
                report_to="none",
            ),
            train_dataset=parts["train"],
            eval_dataset=parts["test"],
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
        )
        trainer.train()
        print(name, trainer.evaluate())
        trainer.save_model()


if __name__ == "__main__":
    main()
