"""A tagger with half the layers: each word's tag is learned from the teacher's answer at the word's first piece.

The data is a json lines file with a list of words and a list of tag numbers in each row:
{"tokens": ["Ada", "wrote", "it"], "ner_tags": [1, 0, 0]}
"""

import argparse

from datasets import load_dataset
from transformers import AutoModelForTokenClassification, AutoTokenizer, DataCollatorForTokenClassification

from hfcompress import CompressionArguments, CompressionTrainer, cut


def encode(batch, tokenizer):
    encoded = tokenizer(batch["tokens"], is_split_into_words=True, truncation=True)
    encoded["labels"] = []
    for index, tags in enumerate(batch["ner_tags"]):
        words = encoded.word_ids(index)
        # Only the first piece of a word is labelled, and only what is labelled is compared with the teacher.
        firsts = [word is not None and word != before for word, before in zip(words, [None, *words], strict=False)]
        encoded["labels"].append([tags[word] if first else -100 for word, first in zip(words, firsts, strict=True)])
    return encoded


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher", required=True, help="a fine-tuned tagger")
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--epochs", type=float, default=3)
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.teacher)
    rows = load_dataset("json", data_files=options.data, split="train")
    rows = rows.map(encode, batched=True, fn_kwargs={"tokenizer": tokenizer}, remove_columns=rows.column_names)
    parts = rows.train_test_split(test_size=0.1, seed=0)

    teacher = AutoModelForTokenClassification.from_pretrained(options.teacher)
    every_other = list(range(1, teacher.config.num_hidden_layers, 2))
    trainer = CompressionTrainer(
        model=cut(teacher, every_other),
        teacher=teacher,
        args=CompressionArguments(
            output_dir=options.output,
            num_train_epochs=options.epochs,
            learning_rate=5e-5,
            losses={"kl": {"weight": 0.7, "temperature": 2}, "hidden_mse": 0.5, "task": 0.3},
            report_to="none",
        ),
        train_dataset=parts["train"],
        eval_dataset=parts["test"],
        data_collator=DataCollatorForTokenClassification(tokenizer),
        processing_class=tokenizer,
    )
    trainer.train()
    print(trainer.evaluate())
    trainer.save_model()


if __name__ == "__main__":
    main()
