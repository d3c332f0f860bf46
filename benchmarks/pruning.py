"""Pruning without training, and with two epochs of distillation after it: accuracy, work, seconds, ONNX files' time.

MiniLM-L6 and MPNet-base, fine-tuned on Rotten Tomatoes sentences (1,000 held out), lose heads and neurons: by `fisher`,
by Torch-Pruning, by torch.nn.utils.prune, each down to the same share of the encoder's multiply-accumulates, each from
the same number of training sentences, with several seeds. What a method chooses by was settled on training sentences;
no setting was chosen on the held-out ones. Each cell is written to benchmarks/results/pruning.json as soon as it is
done; one that is there is not run again.

    python benchmarks/pruning.py --models minilm --methods fisher --macs 0.4,0.33,0.25 --seeds 1,2,3
    python benchmarks/pruning.py --models minilm --methods torch-pruning,torch-prune --macs 0.4,0.25 --seeds 1,2,3
    python benchmarks/pruning.py --models minilm --methods fisher+distilled --macs 0.25 --seeds 1,2,3
    python benchmarks/pruning.py --seconds                         # of the pruning itself, on a quiet machine
    python benchmarks/pruning.py --latency                         # of what is left, first seed, on a quiet machine
    python benchmarks/pruning.py --table
"""

import argparse

import numpy as np
from compressed import TITLES, compressed, latency, latency_table, seconds, work
from models import WORK
from peers_pruning import torch_prune, torch_pruning
from quality import TASK, teacher
from report import Record

from hfcompress.distillation.distill import from_cache
from hfcompress.modeling.load import load_model
from hfcompress.pruning.fisher import FisherConfig, fisher
from hfcompress.training.loss_weights import combine_losses
from hfcompress.training.run import Run, train

RECORD = Record("pruning", __doc__.split("\n")[0])
PRUNED = WORK / "pruned"
LOSSES = {"kl": {"weight": 0.7, "temperature": 2.0}, "task": 0.3}
TRAINING = {"num_train_epochs": 2, "learning_rate": 1e-4, "warmup_steps": 40}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="minilm,mpnet")
    parser.add_argument("--methods", default="fisher")
    parser.add_argument("--macs", default="0.4,0.33,0.25", help="shares of the multiply-accumulates that are kept")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", action="store_true", help="time each method once, at the first of --macs")
    parser.add_argument("--latency", action="store_true", help="export what was pruned, and time it")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    methods, shares = options.methods.split(","), options.macs.split(",")
    for model in [] if options.table else options.models.split(","):
        if options.seconds:
            timed = {method: _method(method, float(shares[0])) for method in methods}
            RECORD.write("seconds", model, {"macs": float(shares[0]), **seconds(model, timed)})
        elif options.latency:
            RECORD.write("latency", model, latency(_sources(model), options.rounds))
        else:
            for seed in options.seeds.split(","):
                for method in methods:
                    for macs in shares:
                        _measure(model, method, macs, seed)
    print(tables(RECORD.read()))


def _measure(model, method, macs, seed):
    name = f"{model}/{method}/{macs}/{seed}"
    start = PRUNED / name.replace("fisher+distilled", "fisher")
    compress = _method(method, float(macs), model, start)
    RECORD.measure(
        name, lambda: compressed(model, int(seed), PRUNED / name, compress), losses=LOSSES, training=TRAINING
    )


def _method(method, macs, name=None, start=None):
    """Return a function that compresses a model in a context."""
    return {
        "fisher": lambda model, context: fisher(model, FisherConfig(macs=macs), context),
        "fisher+distilled": lambda model, context: distilled(model, context, name, start),
        "torch-pruning": lambda model, context: torch_pruning(model, macs, context, work, "heads and neurons"),
        "torch-pruning-all": lambda model, context: torch_pruning(model, macs, context, work, "all"),
        "torch-prune": lambda model, context: torch_prune(model, macs),
    }[method]


METHODS = ("fisher", "fisher+distilled", "torch-pruning", "torch-pruning-all", "torch-prune")


def distilled(model, context, name, start):
    """Let the dense model teach what `fisher` left of it."""
    student = load_model(str(start), TASK)
    run = Run("distil", TRAINING, [(model, context.processor)], losses=combine_losses(LOSSES, None, None, "kl"))
    run.rows, run.teachers = from_cache(WORK / f"cache-{name}-labelled-kl", student, run, context)
    return train(student, run, context)


def _sources(model):
    """Return the folders that are timed, by label: the dense model, and what `fisher` left with the first seed."""
    cells = [name for name in RECORD.read()["cells"] if name.startswith(f"{model}/fisher") and name.endswith("/1")]
    labels = {name: f"{name.split('/')[1]}, {float(name.split('/')[2]):.0%} of the MACs" for name in cells}
    return {"dense": str(teacher(model)), **{labels[name]: str(PRUNED / name) for name in cells}}


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
        mean = {key: np.mean([one[key] for one in cells]) for key in ("accuracy", "macs")}
        drops = [one["accuracy"] - one["dense_accuracy"] for one in cells]
        each = f" ({min(drops):+.1%} to {max(drops):+.1%}, {len(cells)} seeds)" if len(cells) > 1 else " (1 seed)"
        fewer = f"{cells[0]['dense_macs'] / mean['macs']:.2f} ×"
        took = result["seconds"].get(model, {}).get(method)
        million = np.mean([one["parameters"] - one["zeros"] for one in cells]) / 1e6
        lines.append(
            f"| {TITLES[model]} | {method} | {fewer} | {mean['accuracy']:.1%} | {np.mean(drops):+.1%}{each} "
            f"| {million:.1f} M | {'' if took is None else f'{took:.0f}'} | {cells[0]['reload'].partition(':')[0]} |"
        )
    return "\n".join(lines)


def _place(name):
    model, method, macs = name.split("/")
    return model, METHODS.index(method), -float(macs)


if __name__ == "__main__":
    main()
