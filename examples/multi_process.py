r"""Distillation on several processes, one each GPU or CPU. The script is an ordinary one; accelerate starts it.

    accelerate launch --num_processes 4 examples/multi_process.py --teacher teacher --data reviews.csv --output student

Without GPUs say all of this; `accelerate launch --cpu --num_processes 2` silently starts a single process:

    accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no \
        examples/multi_process.py --teacher teacher --data reviews.csv --output student

The losses are averaged over the batches of all processes, so that the same rows in a step give the same weights however
many processes they are split among. Four processes with batches of 8 are one with batches of 32.
"""

import argparse

import torch
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

    # First of all: the arguments find out which of the processes this is.
    args = CompressionArguments(
        output_dir=options.output,
        num_train_epochs=options.epochs,
        learning_rate=1e-4,
        losses={"kl": {"weight": 0.7, "temperature": 2}, "task": 0.3},
        use_cpu=not torch.cuda.is_available(),  # processes on CPUs find each other through gloo
        report_to="none",
    )
    tokenizer = AutoTokenizer.from_pretrained(options.teacher)
    # One process tokenizes and writes the result to the cache, where the others find it.
    with args.main_process_first():
        rows = load_dataset("csv", data_files=options.data, split="train").class_encode_column("label")
        rows = rows.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)

    teacher = AutoModelForSequenceClassification.from_pretrained(options.teacher)
    every_other = list(range(1, teacher.config.num_hidden_layers, 2))
    trainer = CompressionTrainer(
        model=cut(teacher, every_other),
        teacher=teacher,
        args=args,
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    result = trainer.train()
    if trainer.is_world_process_zero():
        print(f"{args.world_size} processes, loss {result.training_loss:.3f}")
    trainer.save_model()  # only one of them writes


if __name__ == "__main__":
    main()
