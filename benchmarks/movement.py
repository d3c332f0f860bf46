"""Movement against magnitude pruning: accuracy at 50, 85 and 95 % zeros, taught by the dense model, several seeds.

MiniLM-L6, fine-tuned on Rotten Tomatoes sentences, is pruned while it learns from itself as it was (KL and labels) for
three epochs; 1,000 sentences are held out. Both methods have the same training, the same cubic schedule and the same
weights to choose from. That movement's scores begin with the weights' sizes was chosen by the loss on the training
sentences; nothing was chosen on those held out. Each cell is written to benchmarks/results/movement.json as soon as it
is done; one that is there is not run again.

    python benchmarks/movement.py                                  # hours: 18 trainings
    python benchmarks/movement.py --sparsities 0.85 --seeds 1
    python benchmarks/movement.py --table
"""

import argparse
import io
import shutil
import time

from models import WORK
from quality import TASK, data, teacher, teacher_accuracy
from report import Record

from hfcompress.context import Context
from hfcompress.distillation.distill import from_cache
from hfcompress.measure.quality import predict, score
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.pruning.magnitude import MagnitudeConfig
from hfcompress.pruning.movement import MovementConfig
from hfcompress.training.loss_weights import combine_losses
from hfcompress.training.run import Run, train

RECORD = Record("movement", __doc__.split("\n")[0])
TRAINING = {"num_train_epochs": 3, "learning_rate": 5e-5, "warmup_steps": 40}
LOSSES = {"kl": {"weight": 0.7, "temperature": 2.0}, "task": 0.3}
CONFIGS = {
    "magnitude": lambda sparsity: MagnitudeConfig(sparsity=sparsity, train=True),
    "movement": lambda sparsity: MovementConfig(sparsity=sparsity, remove_empty=False),
}
SPARSITIES = "0.5,0.85,0.95"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", default=",".join(CONFIGS))
    parser.add_argument("--sparsities", default=SPARSITIES)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if not options.table:
        for seed in map(int, options.seeds.split(",")):
            for sparsity in map(float, options.sparsities.split(",")):
                for method in options.methods.split(","):
                    measure(method, sparsity, seed)
    print(table(RECORD.read()))


def measure(method, sparsity, seed):
    """Run a cell that is not there yet, and write it down."""
    settings = {"dense": teacher_accuracy("minilm"), "training": TRAINING, "losses": LOSSES}
    RECORD.measure(f"{method}/{sparsity}/{seed}", lambda: cell(method, sparsity, seed), **settings)


def cell(method, sparsity, seed):
    """Prune one model while it is trained, and score it on the held-out sentences."""
    folder, rows, scratch = str(teacher("minilm")), data(seed, "labelled"), WORK / "scratch-movement"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    dense, model, processor = load_model(folder, TASK), load_model(folder, TASK), load_processor(folder, TASK)
    context = Context(TASK, rows, processor, seed, scratch, {}, progress=True)
    config = CONFIGS[method](sparsity)
    run = Run(method, TRAINING, [(dense, processor)], losses=combine_losses(LOSSES, None, None, "kl"))
    run.alterations = {"pruning": config.build(model)}
    run.rows, run.teachers = from_cache(WORK / "cache-minilm-labelled-kl", model, run, context)
    start = time.perf_counter()
    trained = train(model, run, context)
    seconds = time.perf_counter() - start
    answers = predict(trained, processor, rows.validation, TASK, rows.max_length)
    found = score(answers, TASK.references(rows.validation), TASK)
    return {"accuracy": found.value, "seconds": round(seconds, 1), "zeros": zero_share(trained)}


def zero_share(model):
    """Return the share of zeros in the layers' matrices, to see that the model is as sparse as asked."""
    from hfcompress.modeling.targets import targets_of

    weights = [module.weight for module in targets_of(model).values()]
    return round(sum(int((weight == 0).sum()) for weight in weights) / sum(map(lambda w: w.numel(), weights)), 4)


def by_case(result):
    """Return the accuracies of all seeds, by method and sparsity."""
    found = {}
    for name, one in sorted(result["cells"].items()):
        method, sparsity, _ = name.split("/")
        found.setdefault((method, float(sparsity)), []).append(one["accuracy"])
    return found


def table(result):
    """Return a Markdown table: mean over seeds, and the seeds' range."""
    cases = by_case(result)
    lines = ["| zeros in the layers | magnitude | movement |", "|---|---|---|"]
    for sparsity in sorted({sparsity for _, sparsity in cases}):
        cells = [_cell(cases.get((method, sparsity), [])) for method in CONFIGS]
        lines.append(f"| {sparsity:.0%} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values):
    if not values:
        return "not run"
    mean = f"{sum(values) / len(values):.1%}"
    return (
        f"{mean} ({len(values)} seeds: {min(values):.1%} to {max(values):.1%})"
        if len(values) > 1
        else f"{mean} (1 seed)"
    )


def plot(result):
    """Return the plot as SVG: a point for each seed, a line through the means."""
    from hfcompress.measure.report import drawing

    cases = by_case(result)
    with drawing.style("movement"):
        figure, (axes,) = drawing.new_figure(3.6, width=6.4)
        for place, method in enumerate(CONFIGS, start=1):
            points = sorted((100 * sparsity, values) for (name, sparsity), values in cases.items() if name == method)
            means = [100 * sum(values) / len(values) for _, values in points]
            axes.plot([x for x, _ in points], means, color=drawing.colour(place), linewidth=1.6, label=method)
            for x, values in points:
                axes.plot([x] * len(values), [100 * value for value in values], **drawing.marker(place))
        axes.axhline(100 * result["dense"], color=drawing.REFERENCE, linewidth=1, linestyle="--", label="dense")
        axes.set_xlabel("zeros in the layers' matrices, %")
        axes.set_ylabel("accuracy, %")
        axes.grid(axis="y")
        axes.legend(loc="lower left")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return buffer.getvalue()


if __name__ == "__main__":
    main()
