"""Training with rounding against rounding alone: accuracy of the static int8 files, several seeds.

MiniLM-L6, fine-tuned on Rotten Tomatoes sentences, learns for one epoch from itself as it was (KL and labels), with
weights and activations rounded, as in the recipe qat-int8; beside it stands static int8 without training, calibrated on
training rows. 1,000 sentences are held out; what is scored is the ONNX file. Learning rate and shares of the schedule
are the recipe's; nothing was chosen on the held-out sentences. Each cell is written to benchmarks/results/qat.json as
soon as it is done; one that is there is not run again.

    python benchmarks/qat.py                                       # an hour: 6 epochs
    python benchmarks/qat.py --methods static,average --seeds 1
    python benchmarks/qat.py --table
"""

import argparse
import dataclasses
import shutil
import tempfile
import time
from pathlib import Path

from models import WORK
from quality import TASK, data, teacher, teacher_accuracy
from report import Record

from hfcompress.context import Context
from hfcompress.distillation.distill import from_cache
from hfcompress.export.config import ExportConfig
from hfcompress.export.run import export_onnx
from hfcompress.measure.quality import predict, score
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.modeling.onnx_model import load_onnx
from hfcompress.quantization.qat import QatConfig
from hfcompress.training.loss_weights import combine_losses
from hfcompress.training.run import Run, train

RECORD = Record("qat", __doc__.split("\n")[0])
TRAINING = {"num_train_epochs": 1, "learning_rate": 2e-5}
LOSSES = {"kl": {"weight": 0.7, "temperature": 2.0}, "task": 0.3}
METHODS = {"static": None, "average": QatConfig(), "learned": QatConfig(ranges="learned")}
TITLES = {
    "static": "static int8 without training",
    "average": "one epoch, averaged ranges",
    "learned": "one epoch, learned ranges",
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
                settings = {"dense": teacher_accuracy("minilm"), "training": TRAINING, "losses": LOSSES}
                RECORD.measure(f"{method}/{seed}", lambda m=method, s=seed: cell(m, s), **settings)
    print(table(RECORD.read()))


def cell(method, seed):
    """Round one model, trained or not, and score its ONNX file on the held-out sentences."""
    folder, rows = str(teacher("minilm")), data(seed, "labelled")
    model, processor = load_model(folder, TASK), load_processor(folder, TASK)
    scratch, found = WORK / "scratch-qat", {}
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    context = Context(TASK, rows, processor, seed, scratch, {}, progress=True)
    if METHODS[method] is not None:
        run = Run(
            method, TRAINING, [(load_model(folder, TASK), processor)], losses=combine_losses(LOSSES, None, None, "kl")
        )
        run.alterations = {"quantization": METHODS[method].build(model)}
        run.rows, run.teachers = from_cache(WORK / "cache-minilm-labelled-kl", model, run, context)
        start = time.perf_counter()
        model = train(model, run, context)
        found["seconds"] = round(time.perf_counter() - start, 1)
    shuffled = rows.train.shuffle(seed=seed)  # so that calibration looks at others with each seed
    looked_at = dataclasses.replace(rows, train=shuffled, validation=shuffled.select(range(1000)))
    with tempfile.TemporaryDirectory(dir=WORK) as place:
        model.config.save_pretrained(place)
        config = ExportConfig(quantize="static", fusion="off")
        export_onnx(model.eval(), processor, TASK, Path(place), config, looked_at, seed, progress=False)
        names = {"float": "model.onnx", "int8": "model_quantized.onnx"}
        for kind, name in names.items():
            answers = predict(
                load_onnx(Path(place, "onnx", name), threads=1), processor, rows.validation, TASK, rows.max_length
            )
            found[kind] = score(answers, TASK.references(rows.validation), TASK).value
    return found


def table(result):
    """Return a Markdown table: accuracy less that of the dense model, mean over seeds and their range."""
    found = {}
    for name, one in sorted(result["cells"].items()):
        found.setdefault(name.split("/")[0], []).append(100 * (one["int8"] - result["dense"]))
    lines = ["| static int8 file | points to the float model |", "|---|---|"]
    lines += [f"| {title} | {_cell(found.get(method, []))} |" for method, title in TITLES.items()]
    return "\n".join(lines)


def _cell(points):
    if not points:
        return "not run"
    mean = f"{sum(points) / len(points):+.1f}"
    return f"{mean} ({min(points):+.1f} to {max(points):+.1f}, {len(points)} seeds)" if len(points) > 1 else mean


if __name__ == "__main__":
    main()
