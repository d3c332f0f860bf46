"""Pruning without training, and with two epochs of distillation after it: accuracy, work, seconds, ONNX files' time.

MiniLM-L6 and MPNet-base, fine-tuned on Rotten Tomatoes sentences (1,000 held out), lose heads and neurons: by `fisher`,
by Torch-Pruning, by torch.nn.utils.prune, each down to the same share of the encoder's multiply-accumulates, each from
the same number of training sentences, with several seeds. What a method chooses by was settled on training sentences;
no setting was chosen on the held-out ones. Each cell is written to benchmarks/results/pruning.json as soon as it is
done; one that is there is not run again.

    python benchmarks/pruning.py --models minilm --methods fisher --macs 0.5,0.4,0.33,0.25 --seeds 1,2,3
    python benchmarks/pruning.py --models minilm --methods torch-pruning,torch-prune --macs 0.5,0.4,0.33 --seeds 1,2,3
    python benchmarks/pruning.py --models minilm --methods fisher+distilled --macs 0.25 --seeds 1,2,3
    python benchmarks/pruning.py --seconds                         # of the pruning itself, on a quiet machine
    python benchmarks/pruning.py --latency                         # of what is left, first seed, on a quiet machine
    python benchmarks/pruning.py --table
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from models import WORK
from peers_pruning import torch_prune, torch_pruning
from quality import TASK, data, teacher

from hfcompress.context import Context
from hfcompress.distillation.distill import from_cache
from hfcompress.environment import hardware, versions
from hfcompress.export.config import ExportConfig
from hfcompress.export.run import export_onnx
from hfcompress.measure.latency import measure_latency, model_call
from hfcompress.measure.quality import difference, predict, score
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.modeling.onnx_model import load_onnx
from hfcompress.pruning.fisher import FisherConfig, fisher
from hfcompress.training.loss_weights import combine_losses
from hfcompress.training.run import Run, train

RESULT = Path(__file__).parent / "results" / "pruning.json"
PRUNED = WORK / "pruned"
TITLES = {"minilm": "MiniLM-L6", "mpnet": "MPNet-base"}
LOSSES = {"kl": {"weight": 0.7, "temperature": 2.0}, "task": 0.3}
TRAINING = {"num_train_epochs": 2, "learning_rate": 1e-4, "warmup_steps": 40}
SHAPES = ((1, 128), (1, 32), (32, 128))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="minilm,mpnet")
    parser.add_argument("--methods", default="fisher")
    parser.add_argument("--macs", default="0.5,0.4,0.33,0.25", help="shares of the multiply-accumulates that are kept")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", action="store_true", help="time each method once, at the first of --macs")
    parser.add_argument("--latency", action="store_true", help="export what was pruned, and time it")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if options.seconds:
        for model in options.models.split(","):
            write("seconds", model, seconds(model, options.methods.split(","), float(options.macs.split(",")[0])))
    elif options.latency:
        for model in options.models.split(","):
            write("latency", model, latency(model, options.rounds))
    elif not options.table:
        for model in options.models.split(","):
            for seed in options.seeds.split(","):
                for method in options.methods.split(","):
                    for macs in options.macs.split(","):
                        measure(model, method, macs, seed)
    print(tables(read()))


def measure(model, method, macs, seed):
    """Run a cell that is not there yet, and write it down."""
    name = f"{model}/{method}/{macs}/{seed}"
    if name in read()["cells"]:
        return
    print(name, flush=True)
    found = cell(model, method, float(macs), int(seed), PRUNED / name)
    write("cells", name, found)
    print(found, flush=True)


def cell(name, method, macs, seed, target):
    """Prune one model, score it on the held-out sentences, save it, and load it again by transformers' own means."""
    source, rows = str(teacher(name)), data(seed, "labelled")
    model, processor = load_model(source, TASK), load_processor(source, TASK)
    whole, dense = work(model), answers_of(name, model, processor, rows)
    pruned = METHODS[method](model, macs, surroundings(rows, processor, seed), target)
    references = TASK.references(rows.validation)
    answers = predict(pruned, processor, rows.validation, TASK, rows.max_length)
    pruned.save_pretrained(target)
    processor.save_pretrained(target)
    found = score(answers, references, TASK)
    return {
        "accuracy": found.value,
        "dense_accuracy": score(dense, references, TASK).value,
        "difference_interval": difference(dense, answers, references, TASK),
        "agreement": float(np.mean(answers.argmax(-1) == dense.argmax(-1))),
        "macs": work(pruned),
        "dense_macs": whole,
        "parameters": sum(parameter.numel() for parameter in pruned.parameters()),
        "zeros": sum(int((parameter == 0).sum()) for parameter in pruned.parameters()),
        "reload": reload(target, pruned),
    }


def surroundings(rows, processor, seed):
    """Return the context of a method, with an empty folder to work in."""
    scratch = WORK / "scratch-pruning"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return Context(TASK, rows, processor, seed, scratch, {}, progress=True)


def seconds(name, methods, macs):
    """Return how long each method takes by itself, with all threads, once; and how many threads these are."""
    import torch

    rows, source = data(1, "labelled"), str(teacher(name))
    found = {"macs": macs, "threads": torch.get_num_threads()}
    for method in methods:
        model, processor = load_model(source, TASK), load_processor(source, TASK)
        start = time.perf_counter()
        METHODS[method](model, macs, surroundings(rows, processor, 1), None)
        found[method] = round(time.perf_counter() - start, 1)
        print(f"{name}, {method}: {found[method]} s with {found['threads']} threads", flush=True)
    return found


def answers_of(name, model, processor, rows, kept={}):  # noqa: B006
    """Return the dense model's answers to the held-out sentences, computed once."""
    if name not in kept:
        kept[name] = predict(model, processor, rows.validation, TASK, rows.max_length)
    return kept[name]


def by_fisher(model, macs, context, target):
    return fisher(model, FisherConfig(macs=macs), context)


def distilled(model, macs, context, target):
    """Let the dense model teach what `fisher` left of it."""
    place = Path(str(target).replace("fisher+distilled", "fisher"))
    student, source = load_model(str(place), TASK), target.parts[-4]
    run = Run("distil", TRAINING, [(model, context.processor)], losses=combine_losses(LOSSES, None, None, "kl"))
    run.rows, run.teachers = from_cache(WORK / f"cache-{source}-labelled-kl", student, run, context)
    return train(student, run, context)


METHODS = {
    "fisher": by_fisher,
    "fisher+distilled": distilled,
    "torch-pruning": lambda model, macs, context, _: torch_pruning(model, macs, context, work, "heads and neurons"),
    "torch-pruning, all": lambda model, macs, context, _: torch_pruning(model, macs, context, work, "all"),
    "torch-prune": lambda model, macs, context, _: torch_prune(model, macs),
}


def work(model):
    """Return the multiply-accumulates for one text of 128 tokens, counted while the model answers."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    inputs = TASK.example_inputs(model.config, 1, 128)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(**inputs)
    return counter.get_total_flops() // 2


def reload(folder, pruned):
    """Say whether `AutoModel…from_pretrained` brings the model back; otherwise the beginning of what it says."""
    import torch
    from transformers import AutoModelForSequenceClassification

    try:
        again = AutoModelForSequenceClassification.from_pretrained(folder)
    except (RuntimeError, ValueError, OSError) as error:
        return f"no: {' '.join(str(error).split())[:120]}"
    inputs = TASK.example_inputs(pruned.config, 2, 32)
    with torch.no_grad():
        same = torch.allclose(again.eval()(**inputs).logits, pruned.eval()(**inputs).logits, atol=1e-5)
    return "yes" if same else "no: it answers otherwise"


def latency(name, rounds):
    """Export a model, and what `fisher` left of it with the first seed; time the files in turns."""
    cells = [place for place in read()["cells"] if place.startswith(f"{name}/fisher") and place.endswith("/1")]
    with tempfile.TemporaryDirectory(dir=WORK) as scratch:
        sources = {"dense": str(teacher(name)), **{place: str(PRUNED / place) for place in cells}}
        models = {}
        for number, (label, source) in enumerate(sources.items()):
            folder = Path(scratch, str(number))
            folder.mkdir()
            processor = load_processor(source, TASK)
            export_onnx(load_model(source, TASK), processor, TASK, folder, ExportConfig(), progress=False)
            for kind, file in (("fp32", "model.onnx"), ("int8", "model_quantized.onnx")):
                load_model(source, TASK).config.save_pretrained(folder)
                models[f"{label}: {kind}"] = load_onnx(folder / "onnx" / file, threads=1)
        found = {label: {"latency": {}} for label in models}
        for batch_size, length in SHAPES:
            calls = {label: model_call(model, TASK, batch_size, length) for label, model in models.items()}
            times = measure_latency(calls, rounds if batch_size == 1 else max(rounds // 8, 3), threads=1)
            for label, time_ in times.items():
                found[label]["latency"][f"{batch_size} x {length}"] = time_.to_dict()
    return found


def write(part, name, found):
    result = read()
    result[part][name] = found
    result |= {"losses": LOSSES, "training": TRAINING, "versions": versions(), "hardware": hardware()}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


def read():
    if RESULT.is_file():
        return json.loads(RESULT.read_text())
    return {"what": __doc__.split("\n")[0], "cells": {}, "seconds": {}, "latency": {}}


def tables(result):
    """Return the results in Markdown: accuracy by method and budget, then the ONNX files' times."""
    return "\n\n".join(part for part in (accuracy_table(result), latency_table(result)) if part)


def accuracy_table(result):
    """Return a row for each model, method and budget, means over seeds."""
    groups = {}
    for name, found in result["cells"].items():
        groups.setdefault(name.rsplit("/", 1)[0], []).append(found)
    lines = [
        "| model | method | fewer MACs | accuracy | difference to dense | parameters | seconds | reloads |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, cells in sorted(groups.items(), key=lambda item: _place(item[0])):
        model, method, _ = name.split("/")
        mean = {key: np.mean([one[key] for one in cells]) for key in ("accuracy", "dense_accuracy", "macs")}
        drops = [one["accuracy"] - one["dense_accuracy"] for one in cells]
        each = f" ({min(drops):+.1%} to {max(drops):+.1%}, {len(cells)} seeds)" if len(cells) > 1 else " (1 seed)"
        fewer = f"{cells[0]['dense_macs'] / mean['macs']:.2f} ×"
        time_ = result["seconds"].get(model, {}).get(method)
        million = np.mean([one["parameters"] - one["zeros"] for one in cells]) / 1e6
        lines.append(
            f"| {TITLES[model]} | {method} | {fewer} | {mean['accuracy']:.1%} | {np.mean(drops):+.1%}{each} "
            f"| {million:.1f} M | {'' if time_ is None else f'{time_:.0f}'} | {cells[0]['reload'].partition(':')[0]} |"
        )
    return "\n".join(lines)


def _place(name):
    model, method, macs = name.split("/")
    return model, list(METHODS).index(method), -float(macs)


def latency_table(result):
    """Return a row for each file."""
    lines, shapes = [], " | ".join(f"ms, {b} × {n}" for b, n in SHAPES)
    for model, files in result["latency"].items():
        lines += [
            f"| {TITLES[model]}: ONNX file | {shapes} | × the dense fp32 |",
            "|---|---|---|---|---|",
        ]
        for label, found in files.items():
            times = [found["latency"][f"{b} x {n}"]["median_ms"] for b, n in SHAPES]
            faster = 1 / found["latency"]["1 x 128"]["ratio"]
            title = label.removeprefix(f"{model}/").replace("/1:", " of the MACs,").replace("/", " ")
            lines.append(f"| {title} | {' | '.join(f'{ms:.1f}' for ms in times)} | {faster:.2f} |")
        lines.append("")
    return "\n".join(lines).strip()


if __name__ == "__main__":
    main()
