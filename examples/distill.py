"""The same script with a teacher: the student is half of it, and learns from its answers as well as from the labels."""

import argparse

from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from hfcompress import CompressionArguments, CompressionTrainer, cut


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

    teacher = AutoModelForSequenceClassification.from_pretrained(options.teacher)
    every_other = list(range(1, teacher.config.num_hidden_layers, 2))
    trainer = CompressionTrainer(
        model=cut(teacher, every_other),
        teacher=teacher,
        args=CompressionArguments(
            output_dir=options.output,
            num_train_epochs=options.epochs,
            learning_rate=1e-4,
            losses={"kl": {"weight": 0.7, "temperature": 2}, "task": 0.3},
            report_to="none",
        ),
        train_dataset=parts["train"],
        eval_dataset=parts["test"],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    trainer.train()
    print(trainer.evaluate())
    trainer.save_model()


if __name__ == "__main__":
    main()
