"""Half of a ResNet's work removed, by each importance: accuracy on digits before, after, and one epoch later.

The network is trained first. Run it with `python benchmarks/filters.py` (three minutes on one core). The result goes to
`benchmarks/results/filters.json`.
"""

import argparse
import copy
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from report import write

SHAPE = "shape:resnet-18;width=0.5;image_size=32"
SCOPES = ("global", "uniform")
IMPORTANCES = ("taylor", "batch_norm", "magnitude")
TRAINING = {"per_device_train_batch_size": 32, "learning_rate": 3e-3, "warmup_steps": 20}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--macs", type=float, default=0.5, help="share of the multiply-accumulates that is kept")
    parser.add_argument("--epochs", type=int, default=4, help="of the training before the pruning")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        context = surroundings(options, Path(scratch))
        dense = trained(context, options.epochs)
        before = {"accuracy": accuracy(dense, context), "macs": macs(dense, context)}
        print(f"dense {before['accuracy']:.1%}, {before['macs'] / 1e6:.1f} million multiply-accumulates")
        print("scope    importance   macs  pruned  batch norms anew  one epoch later  seconds")
        cases = [
            case(dense, scope, importance, context, options, before) for scope in SCOPES for importance in IMPORTANCES
        ]
    report(options, before, cases)


def surroundings(options, folder):
    """Return the context: digits, of which a fifth is held out."""
    from hfcompress.context import Context
    from hfcompress.data import DataConfig, load_data
    from hfcompress.modeling.shapes import shape_processor
    from hfcompress.tasks import find_task

    task = find_task("image-classification")
    data = load_data(DataConfig("sklearn:digits", validation="0.2"), options.seed, task)
    return Context(task, data, shape_processor(SHAPE), options.seed, folder, {}, progress=False)


def trained(context, epochs):
    """Return the network, trained from random weights."""
    import torch
    from transformers import AutoModelForImageClassification

    from hfcompress.modeling.shapes import shape_config, start_residuals_at_identity

    torch.manual_seed(context.seed)
    config = shape_config(SHAPE, num_labels=len(context.data.label_names))
    model = AutoModelForImageClassification.from_config(config)
    start_residuals_at_identity(model)
    return train(model, context, epochs, "dense")


def train(model, context, epochs, name, **training):
    """Train a model on the digits; its checkpoints have a folder of their own."""
    from hfcompress.training.finetune import FinetuneConfig, finetune

    context = replace(context, work_dir=context.work_dir / name)
    context.work_dir.mkdir()
    return finetune(model, FinetuneConfig(training={"num_train_epochs": epochs, **TRAINING, **training}), context)


def case(dense, scope, importance, context, options, before):
    """Prune a copy of the network and return what is left of its accuracy."""
    from hfcompress.calibration import calibration_batches, model_inputs
    from hfcompress.pruning.batch_norms import reestimate
    from hfcompress.pruning.filters import FiltersConfig, filters

    config = FiltersConfig(macs=options.macs, scope=scope, importance=importance, recalibrate=False)
    start = time.perf_counter()
    model = filters(copy.deepcopy(dense), config, context)
    seconds = time.perf_counter() - start
    found = {"macs": macs(model, context) / before["macs"], "pruned": accuracy(model, context)}
    start = time.perf_counter()
    batches = calibration_batches(model, context, config.examples, config.batch_size)
    reestimate(model, [model_inputs(model, context, batch) for batch in batches])
    found["seconds"] = seconds + time.perf_counter() - start
    found["batch_norms_anew"] = accuracy(model, context)
    model = train(model, context, 1, f"{scope}-{importance}", learning_rate=1e-3)
    found["one_epoch_later"] = accuracy(model, context)
    found = {name: round(value, 4) for name, value in found.items()}
    print(
        f"{scope:<9}{importance:<11}{found['macs']:>6.2f}{found['pruned']:>8.1%}{found['batch_norms_anew']:>18.1%}"
        f"{found['one_epoch_later']:>17.1%}{found['seconds']:>9.1f}",
        flush=True,
    )
    return {"scope": scope, "importance": importance, **found}


def accuracy(model, context):
    """Return the share of the held-out digits that are read right."""
    import numpy as np

    from hfcompress.measure.quality import predict

    rows = context.data.validation
    answers = predict(model.eval(), context.processor, rows, context.task, None)
    return round(float((answers.argmax(-1) == np.array(rows["labels"])).mean()), 4)


def macs(model, context):
    """Return how often the network multiplies for one digit."""
    from hfcompress.measure.size import measure_size

    return measure_size(model.config, context.task).macs


def report(options, before, cases):
    """Write the comparison down."""
    result = {
        "what": "accuracy on held-out digits of a ResNet-18 at half its width, before and after filters are removed",
        "settings": vars(options),
        "dense": before,
        "cases": cases,
    }
    write("filters", result)


if __name__ == "__main__":
    main()
