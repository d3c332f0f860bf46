"""Peak memory of a distillation step on words: whole logits against logits in parts, by vocabulary and length.

Each case is a fresh process, whose peak resident memory counts. Run it with `python benchmarks/vocabulary_memory.py`.
The result goes to `benchmarks/results/vocabulary_memory.json`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time

from report import write

VOCABULARIES = (50_000, 150_000)
LENGTHS = (128, 512)
WAYS = ("whole", "parts")
MEGABYTE = 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="their median is the time a step takes")
    parser.add_argument("--case", nargs=3, metavar=("VOCABULARY", "LENGTH", "WAY"), help="measure one case here")
    options = parser.parse_args()
    if options.case:
        vocabulary, length, way = options.case
        print(json.dumps(measure(int(vocabulary), int(length), way, options)))
    else:
        print("vocabulary  length  logits    step MiB  peak MiB  seconds")
        report(options, [case(*sizes, options) for sizes in product()])


def product():
    return [(vocabulary, length, way) for vocabulary in VOCABULARIES for length in LENGTHS for way in WAYS]


def case(vocabulary, length, way, options):
    """Measure one case in a fresh process."""
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in vars(options).items() if name != "case"]
    command = [sys.executable, __file__, *settings, "--case", str(vocabulary), str(length), way]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    numbers = f"{found['step_mb']:>10.0f}{found['peak_mb']:>10.0f}{found['seconds']:>9.2f}"
    print(f"{vocabulary:>10}{length:>8}  {way:<8}{numbers}", flush=True)
    return {"vocabulary": vocabulary, "length": length, "logits": way, **found}


def measure(vocabulary, length, way, options):
    """Take the steps and return the peak before them, the peak after them, and the median time."""
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = build(vocabulary, way, options, scratch)
        tokens = torch.randint(vocabulary, (options.batch_size, length), generator=torch.Generator().manual_seed(0))
        batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}
        trainer.current_gradient_accumulation_steps = 1
        before, seconds = peak(), []
        for _ in range(options.steps):
            start = time.perf_counter()
            (inputs,), count = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
            trainer.training_step(trainer.model, dict(inputs), count)
            trainer.model.zero_grad()
            seconds.append(time.perf_counter() - start)
    return {
        "before_mb": before,
        "peak_mb": peak(),
        "step_mb": round(peak() - before, 1),
        "seconds": sorted(seconds)[len(seconds) // 2],
    }


def build(vocabulary, way, options, scratch):
    """Build a trainer of a tiny GPT-2 with a teacher of the same size, on the default losses."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from hfcompress import CompressionArguments, CompressionTrainer
    from hfcompress.training.heads import DeferredHead

    if way == "whole":
        DeferredHead.of = lambda model: None  # the model computes its logits itself
    sizes = {"n_embd": options.width, "n_layer": options.layers, "n_head": 2, "n_positions": max(LENGTHS)}
    config = AutoConfig.for_model("gpt2", vocab_size=vocabulary, bos_token_id=0, eos_token_id=0, **sizes)
    torch.manual_seed(0)
    student, teacher = AutoModelForCausalLM.from_config(config), AutoModelForCausalLM.from_config(config)
    args = CompressionArguments(output_dir=scratch, report_to="none", dataloader_pin_memory=False, use_cpu=True)
    trainer = CompressionTrainer(student, args, teacher=teacher)
    assert (trainer.distiller.student.head is None) == (way == "whole")  # noqa: S101
    return trainer


def peak():
    """Return this process's peak resident memory so far, in MiB."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(found / (MEGABYTE if sys.platform == "darwin" else 1024), 1)


def report(options, cases):
    """Print the comparison and write it down."""
    settings = {name: value for name, value in vars(options).items() if name != "case"}
    result = {
        "what": "peak resident memory and seconds of a step (kl and task) of a tiny GPT-2, logits whole or in parts",
        "settings": settings,
        "cases": cases,
    }
    write("vocabulary_memory", result)


if __name__ == "__main__":
    main()
