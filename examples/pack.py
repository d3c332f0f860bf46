"""Weight sharing and the container: few values a matrix, one small file, and the very same checkpoint again."""

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hfcompress.clustering.container import pack, unpack
from hfcompress.clustering.kmeans import KmeansConfig, kmeans
from hfcompress.context import Context
from hfcompress.data import DataConfig, load_data
from hfcompress.tasks import find_task


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--clusters", type=int, default=16)
    options = parser.parse_args()
    output = Path(options.output)

    model = AutoModelForSequenceClassification.from_pretrained(options.model)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    task = find_task("text-classification")
    data = load_data(DataConfig(dataset=options.data), 42, task, tuple(model.config.id2label.values()))
    context = Context(task, data, tokenizer, seed=42, work_dir=output, earlier={})

    model = kmeans(model, KmeansConfig(clusters=options.clusters), context)
    model.save_pretrained(output / "shared")
    tokenizer.save_pretrained(output / "shared")

    packed = pack(output / "shared", output / "model.hfz")
    unpack(output / "model.hfz", output / "again")

    again = AutoModelForSequenceClassification.from_pretrained(output / "again")
    same = all(torch.equal(weight, again.get_parameter(name)) for name, weight in model.named_parameters())
    print(f"{packed.unpacked_bytes} bytes, packed {packed.bytes}; the weights are the same again: {same}")


if __name__ == "__main__":
    main()
