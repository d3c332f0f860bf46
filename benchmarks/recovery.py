"""Low rank, then one epoch of recovery: all weights taught by the dense model, or LoRA on the factors; several seeds.

MiniLM-L6, fine-tuned on Rotten Tomatoes sentences, keeps half of its encoder's linear parameters (`activation`, ranks
shared out); then it learns from itself as it was (KL and labels), as in the recipes low-rank-recovered and
low-rank-lora. 1,000 sentences are held out. Learning rates are those of the fine-tuning, ten times as high for LoRA;
nothing was chosen on the held-out sentences. Each cell is written to benchmarks/results/recovery.json as soon as it is
done; one that is there is not run again.

    python benchmarks/recovery.py                                  # half an hour: 6 epochs
    python benchmarks/recovery.py --methods none,full --seeds 1
    python benchmarks/recovery.py --table
"""

import argparse
import shutil
import time

from models import WORK
from quality import TASK, data, teacher, teacher_accuracy
from report import Record

from hfcompress.context import Context
from hfcompress.distillation.distill import from_cache
from hfcompress.factorization.activation import ActivationConfig, activation
from hfcompress.measure.quality import predict, score
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.training.lora import LoraOptions
from hfcompress.training.loss_weights import combine_losses
from hfcompress.training.run import Run, train

RECORD = Record("recovery", __doc__.split("\n")[0])
FOLDER = WORK / "recovery"
SHARE = 0.5
LOSSES = {"kl": {"weight": 0.7, "temperature": 2.0}, "task": 0.3}
METHODS = {
    "none": None,
    "full": ({"num_train_epochs": 1, "learning_rate": 5e-5}, None),
    "lora": ({"num_train_epochs": 1, "learning_rate": 5e-4}, LoraOptions(rank=8)),
}
TITLES = {
    "none": "without recovery",
    "full": "one epoch, all weights",
    "lora": "one epoch, LoRA on the factors",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if not options.table:
        for seed in map(int, options.seeds.split(",")):
            for method in options.methods.split(","):
                measure(method, seed)
    print(table(RECORD.read()))


def measure(method, seed):
    """Run a cell that is not there yet, and write it down."""
    training = {name: found and found[0] for name, found in METHODS.items()}
    settings = {"dense": teacher_accuracy("minilm"), "share": SHARE, "training": training, "losses": LOSSES}
    RECORD.measure(f"{method}/{seed}", lambda: cell(method, seed), **settings)


def cell(method, seed):
    """Recover one model of low rank, and score it on the held-out sentences."""
    folder, rows = str(teacher("minilm")), data(seed, "labelled")
    processor = load_processor(folder, TASK)
    scratch = WORK / "scratch-recovery"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    context = Context(TASK, rows, processor, seed, scratch, {}, progress=True)
    model, found = factorized(folder, context), {}
    if METHODS[method] is not None:
        training, lora = METHODS[method]
        run = Run(method, training, [(load_model(folder, TASK), processor)], lora=lora)
        run.losses = combine_losses(LOSSES, None, None, "kl")
        run.rows, run.teachers = from_cache(WORK / "cache-minilm-labelled-kl", model, run, context)
        start = time.perf_counter()
        model = train(model, run, context)
        found["seconds"] = round(time.perf_counter() - start, 1)
    answers = predict(model, processor, rows.validation, TASK, rows.max_length)
    accuracy = score(answers, TASK.references(rows.validation), TASK).value
    return {"accuracy": accuracy, "parameters": model.num_parameters(), **found}


def factorized(source, context):
    """Return the model of low rank, made once for each seed."""
    folder = FOLDER / str(context.seed)
    if not folder.is_dir():
        model = activation(load_model(source, TASK), ActivationConfig(target_params=SHARE), context)
        model.save_pretrained(folder)
    return load_model(str(folder), TASK)


def table(result):
    """Return a Markdown table: accuracy less that of the dense model, mean over seeds and their range."""
    found = {}
    for name, one in sorted(result["cells"].items()):
        found.setdefault(name.split("/")[0], []).append(100 * (one["accuracy"] - result["dense"]))
    lines = ["| half of the linear layers' parameters | points to the dense model |", "|---|---|"]
    lines += [f"| {title} | {_cell(found.get(method, []))} |" for method, title in TITLES.items()]
    return "\n".join(lines)


def _cell(points):
    if not points:
        return "not run"
    mean = f"{sum(points) / len(points):+.1f}"
    return f"{mean} ({min(points):+.1f} to {max(points):+.1f}, {len(points)} seeds)" if len(points) > 1 else mean


if __name__ == "__main__":
    main()
