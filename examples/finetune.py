"""An ordinary fine-tuning script. One import differs from the one you have."""

import argparse

from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    TrainingArguments,
)

from hfcompress import CompressionTrainer as Trainer  # was: from transformers import Trainer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--epochs", type=float, default=2)
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    rows = load_dataset("csv", data_files=options.data, split="train").class_encode_column("label")
    names = rows.features["label"].names
    rows = rows.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
    parts = rows.train_test_split(test_size=0.1, seed=0)

    model = AutoModelForSequenceClassification.from_pretrained(
        options.model,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={n: i for i, n in enumerate(names)},
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=options.output, num_train_epochs=options.epochs, report_to="none"),
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
