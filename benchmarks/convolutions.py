"""Convolutions of low rank: a ResNet distilled on digits, then factorized to half of its work, by each method.

A narrow ResNet-50 trained on scikit-learn's digits teaches a narrow ResNet-18; that is factorized, and then learns for
three epochs from itself as it was. A third of the digits is held out; settings are those of the recipe resnet-vision,
and nothing was chosen on the held-out ones. Each cell is written to benchmarks/results/convolutions.json as soon as it
is done; one that is there is not run again.

    python benchmarks/convolutions.py                              # twenty-five minutes on one busy core, most of it cp
    python benchmarks/convolutions.py --methods tucker --seeds 1
    python benchmarks/convolutions.py --table
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from models import WORK
from report import Record

RECORD = Record("convolutions", __doc__.split("\n")[0])
FOLDER = WORK / "convolutions"
TEACHER = "shape:resnet-50;width=0.25;image_size=32"
STUDENT = "shape:resnet-18;width=0.25;image_size=32"
METHODS = {
    "channel": ("channel", {}),
    "spatial": ("spatial", {}),
    "tucker": ("tucker", {}),
    "tucker, plain": ("tucker", {"plain": True}),
    "cp": ("cp", {}),
}
OPTIONS = {"target_macs": 0.48, "multiple": 4}
TRAINING = {"per_device_train_batch_size": 32, "learning_rate": 3e-3, "warmup_steps": 20}
RECOVERY = {"num_train_epochs": 3, "per_device_train_batch_size": 32, "learning_rate": 1e-3}
LOSSES = {"kl": {"weight": 0.7, "temperature": 2.0}, "task": 0.3}
BATCHES = (1, 32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=";".join(METHODS), help="separated by semicolons")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=int, default=8, help="of the teacher, and of the student")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    if not options.table:
        for seed in map(int, options.seeds.split(",")):
            RECORD.measure(f"{seed}/dense", lambda seed=seed: dense(seed, options.epochs), **settings(options))
            for method in options.methods.split(";"):
                if METHODS[method][1] and seed > 1:
                    continue  # plain it takes long, and is there to be compared
                RECORD.measure(f"{seed}/{method}", lambda seed=seed, method=method: factorized(seed, method))
        first = options.seeds.split(",")[0]
        if "digits" not in RECORD.read()["latency"]:
            RECORD.write("latency", "digits", latency(first, options.rounds))
    print(tables(RECORD.read()))


def settings(options):
    """Return what is written down beside the results."""
    return {
        "settings": {
            "teacher": TEACHER,
            "student": STUDENT,
            "epochs": options.epochs,
            "factorization": OPTIONS,
            "training": TRAINING,
            "recovery": RECOVERY,
            "losses": LOSSES,
        }
    }


def surroundings(seed, folder):
    """Return the context: digits, of which a third is held out."""
    from hfcompress.context import Context
    from hfcompress.data import DataConfig, load_data
    from hfcompress.modeling.shapes import shape_processor
    from hfcompress.tasks import find_task

    task = find_task("image-classification")
    data = load_data(DataConfig("sklearn:digits", validation="0.3333"), seed, task)
    return Context(task, data, shape_processor(STUDENT), seed, folder, {}, progress=False)


def dense(seed, epochs):
    """Train the teacher, distil the student, and keep it."""
    import torch
    from transformers import AutoModelForImageClassification

    from hfcompress.distillation.distill import DistillConfig, distill
    from hfcompress.modeling.shapes import shape_config, start_residuals_at_identity
    from hfcompress.training.finetune import FinetuneConfig, finetune

    training = {"num_train_epochs": epochs, **TRAINING}
    with tempfile.TemporaryDirectory() as scratch:
        context = surroundings(seed, Path(scratch))
        torch.manual_seed(seed)
        teacher = AutoModelForImageClassification.from_config(shape_config(TEACHER, num_labels=10))
        start_residuals_at_identity(teacher)
        teacher = finetune(teacher, FinetuneConfig(training=training), within(context, "teacher"))
        taught = accuracy(teacher, context)
        config = DistillConfig(student=STUDENT, losses=LOSSES, training=training)
        student = distill(teacher, config, within(context, "student"))
        student.save_pretrained(FOLDER / str(seed) / "dense")
        sizes = {"teacher_macs": size(teacher, context).macs, "teacher_parameters": teacher.num_parameters()}
        return {"teacher_accuracy": taught, **sizes, **measured(student, context)}


def factorized(seed, method):
    """Factorize the student of a seed, and let it recover."""
    import copy
    import time

    from hfcompress.modeling.load import load_model
    from hfcompress.registry import find
    from hfcompress.training.loss_weights import combine_losses
    from hfcompress.training.run import Run, train

    with tempfile.TemporaryDirectory() as scratch:
        context = surroundings(seed, Path(scratch))
        before = load_model(str(FOLDER / str(seed) / "dense"), context.task)
        name, own = METHODS[method]
        step = find("factorization", name)
        begin = time.perf_counter()
        model = step.target(copy.deepcopy(before), step.config(**OPTIONS, **own), context)
        found = {"seconds": round(time.perf_counter() - begin, 1), "unrecovered": accuracy(model, context)}
        run = Run("recovery", RECOVERY, [(before, context.processor)])
        run.losses = combine_losses(LOSSES, None, None, "kl")
        model = train(model, run, within(context, "recovery"))
        model.save_pretrained(FOLDER / str(seed) / method)
        return {**found, **measured(model, context)}


def within(context, name):
    """Return a context whose files lie in a folder of their own."""
    from dataclasses import replace

    folder = context.work_dir / name
    folder.mkdir()
    return replace(context, work_dir=folder)


def measured(model, context):
    """Return accuracy and sizes."""
    return {
        "accuracy": accuracy(model, context),
        "macs": size(model, context).macs,
        "parameters": model.num_parameters(),
    }


def size(model, context):
    """Return what a model weighs."""
    from hfcompress.measure.size import measure_size

    return measure_size(model.config, context.task)


def accuracy(model, context):
    """Return the share of the held-out digits that are read right."""
    from hfcompress.measure.quality import predict

    rows = context.data.validation
    answers = predict(model.eval(), context.processor, rows, context.task, None)
    return round(float((answers.argmax(-1) == np.array(rows["labels"])).mean()), 4)


def latency(seed, rounds):
    """Time the dense student and the factorized ones in turns on one thread: PyTorch, and ONNX Runtime's fp32."""
    from hfcompress.export.run import ExportConfig, export_onnx
    from hfcompress.measure.latency import measure_latency, model_call
    from hfcompress.modeling.load import load_model
    from hfcompress.modeling.onnx_model import load_onnx

    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        context = surroundings(int(seed), Path(scratch))
        pytorch, onnx = {}, {}
        for number, name in enumerate(["dense", *METHODS]):
            if not (FOLDER / seed / name).is_dir():
                continue
            pytorch[name] = load_model(str(FOLDER / seed / name), context.task).eval()
            folder = Path(scratch, str(number))
            folder.mkdir()
            pytorch[name].config.save_pretrained(folder)
            export_onnx(pytorch[name], context.processor, context.task, folder, ExportConfig(), progress=False)
            onnx[name] = load_onnx(folder / "onnx" / "model.onnx", threads=1)
        for runtime, models in (("PyTorch", pytorch), ("ONNX Runtime", onnx)):
            for batch in BATCHES:
                calls = {name: model_call(model, context.task, batch) for name, model in models.items()}
                times = measure_latency(calls, rounds if batch == 1 else max(rounds // 8, 3), threads=1)
                for name, one in times.items():
                    found.setdefault(name, {})[f"{runtime}, batch {batch}"] = one.to_dict()
    return found


def tables(result):
    """Return the results in Markdown: accuracy by method, then times."""
    return "\n\n".join(part for part in (accuracy_table(result), latency_table(result)) if part)


def accuracy_table(result):
    """Return a row for each method; means over seeds, and the range of what accuracy loses."""
    cells, seeds = result["cells"], sorted({name.split("/")[0] for name in result["cells"]})
    lines = [
        "| method | MACs | parameters | points without recovery | points after three epochs | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        pairs = [(cells[f"{seed}/dense"], cells[f"{seed}/{method}"]) for seed in seeds if f"{seed}/{method}" in cells]
        if pairs:
            share = {key: np.mean([one[key] / before[key] for before, one in pairs]) for key in ("macs", "parameters")}
            raw, recovered = (
                [100 * (one[key] - before["accuracy"]) for before, one in pairs] for key in ("unrecovered", "accuracy")
            )
            spent = np.mean([one["seconds"] for _, one in pairs])
            kept = f"{share['macs']:.0%} | {share['parameters']:.0%}"
            lines.append(f"| {method} | {kept} | {_points(raw)} | {_points(recovered)} | {spent:.0f} |")
    return "\n".join(lines)


def _points(values):
    return f"{np.mean(values):+.1f} ({min(values):+.1f} to {max(values):+.1f})"


def latency_table(result):
    """Return a row for each model: milliseconds, and how many times as fast as the dense one."""
    found = result["latency"].get("digits", {})
    if not found:
        return ""
    kinds = list(next(iter(found.values())))
    lines = [f"| model | {' | '.join(f'{kind}, ms' for kind in kinds)} |", "|---" * (1 + len(kinds)) + "|"]
    for name, times in found.items():
        cells = [f"{times[kind]['median_ms']:.2f} ({1 / times[kind]['ratio']:.2f} ×)" for kind in kinds]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
