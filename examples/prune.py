"""Pruning without training: heads and neurons leave a fine-tuned model, and `from_pretrained` loads what is left."""

import argparse
from pathlib import Path

from transformers import AutoModelForSequenceClassification, AutoTokenizer

import hfcompress  # noqa: F401  also where the pruned model is loaded: its layers differ in width
from hfcompress.context import Context
from hfcompress.data import DataConfig, load_data
from hfcompress.pruning.fisher import FisherConfig, fisher
from hfcompress.tasks import find_task


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--macs", type=float, default=0.4)
    options = parser.parse_args()

    model = AutoModelForSequenceClassification.from_pretrained(options.model)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    before = model.num_parameters()
    task = find_task("text-classification")
    data = load_data(DataConfig(dataset=options.data), 42, task, tuple(model.config.id2label.values()))
    context = Context(task, data, tokenizer, seed=42, work_dir=Path(options.output), earlier={})

    model = fisher(model, FisherConfig(macs=options.macs), context)
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)

    again = AutoModelForSequenceClassification.from_pretrained(options.output)
    print(f"{before} parameters, then {again.num_parameters()}")


if __name__ == "__main__":
    main()
