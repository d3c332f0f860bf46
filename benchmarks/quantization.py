"""Fewer bits: accuracy, bytes, time, seconds and memory of every way to quantize, beside other tools, in one run.

MiniLM-L6 and MPNet-base, fine-tuned on Rotten Tomatoes sentences; 1,000 sentences are held out and nothing is chosen on
them: where a method looks at quality, 1,000 of the training sentences stand for them. Each file is made by a process of
its own, whose seconds and peak memory are counted. Beside ours stand Optimum's preset for AVX2, ONNX Runtime's
`quantize_dynamic` with its defaults, and torchao's int8. Then the files take turns at the clock, on one thread. What is
made is kept in benchmarks/work/quantized; a file that is there is not made again.

    pip install torchao==0.18.0                                    # for one row; without it there is none
    python benchmarks/quantization.py --models minilm
    python benchmarks/quantization.py --table
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import quality
from compressed import SHAPES, TITLES
from export import export_optimum, measured
from models import WORK
from report import Record

from hfcompress.measure.latency import measure_latency, model_call
from hfcompress.measure.quality import difference, predict, score
from hfcompress.measure.runnable import load_runnable

RECORD = Record("quantization", __doc__.split("\n")[0])
FOLDER = WORK / "quantized"
TASK = quality.TASK
HERE = str(Path(__file__).parent)

GRAPHS = {
    "int8": {"quantize": "int8"},
    "static int8": {"quantize": "static"},
    "smoothed static int8": {"quantize": "smooth_quant"},
    "int8 weights": {"quantize": "int8_weights"},
    "int4 (RTN)": {"quantize": "int4", "algorithm": "rtn"},
    "int4 (HQQ)": {"quantize": "int4", "algorithm": "hqq"},
    "int4 (GPTQ)": {"quantize": "int4", "algorithm": "gptq"},
    "mixed, 0.5 point": {"quantize": "mixed", "max_drop": 0.005},
    "mixed, 1/6 of the size": {"quantize": "mixed", "max_size": 0.16},
    "float16": {"quantize": "float16"},
}
"""Ours, as ONNX files, with the options of an export."""
STEPS = {"bnb int8": "bnb_int8", "bnb nf4": "bnb_nf4", "bnb fp4": "bnb_fp4"}
"""Ours, in PyTorch, through bitsandbytes."""
OPTIMUM, DEFAULT, TORCHAO = "Optimum, avx2 preset", "onnxruntime's defaults", "torchao int8"

EXPORT = """
import dataclasses, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from quality import TASK, data
from hfcompress.export.config import ExportConfig
from hfcompress.export.run import export_onnx
from hfcompress.modeling.load import load_model, load_processor
source, target, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
rows = data(42, "labelled")
shuffled = rows.train.shuffle(seed=1)
rows = dataclasses.replace(
    rows, train=shuffled.select(range(1000, len(shuffled))), validation=shuffled.select(range(1000))
)
model, processor = load_model(source, TASK), load_processor(source, TASK)
target.mkdir(parents=True)
model.config.save_pretrained(target)
record = export_onnx(model, processor, TASK, target, ExportConfig(**options), rows, progress=False)
(target / "record.json").write_text(json.dumps(record, default=str))
"""
STEP = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from quality import TASK, data
from hfcompress import registry
from hfcompress.context import Context
from hfcompress.modeling.load import load_model, load_processor
source, target, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
model, processor = load_model(source, TASK), load_processor(source, TASK)
context = Context(TASK, data(42, "labelled"), processor, 42, target.parent, {}, progress=False)
method = registry.find("quantization", name)
method.target(model, method.config(), context).save_pretrained(target)
"""
ONNXRUNTIME = """
import sys
from pathlib import Path
from onnxruntime.quantization import quantize_dynamic
Path(sys.argv[2]).mkdir(parents=True)
quantize_dynamic(sys.argv[1], Path(sys.argv[2], "model.onnx"))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="minilm,mpnet")
    parser.add_argument("--methods", default=";".join([*GRAPHS, *STEPS]), help="separated by semicolons")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--make", action="store_true", help="make the files, and time nothing")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    for model in [] if options.table else options.models.split(","):
        for method in options.methods.split(";"):
            make(model, method)
        make_others(model)
        if not options.make:
            RECORD.write("latency", model, compare(model, options.rounds))
    print(tables(RECORD.read()))


def make(model, method):
    """Quantize by one of ours, unless it is there; note what that took."""
    source, target = str(quality.teacher(model)), FOLDER / model / method.replace(" ", "-").replace("/", "-")
    step = STEPS.get(method)
    script, given = (STEP, step) if step else (EXPORT, json.dumps(GRAPHS[method]))
    RECORD.measure(f"{model}/{method}", lambda: _made(script, source, target, given), options=GRAPHS | STEPS)


def _made(script, source, target, given):
    shutil.rmtree(target, ignore_errors=True)  # of a run that was stopped
    try:
        cost = measured([sys.executable, "-c", script, source, str(target), given, HERE])
    except SystemExit as error:
        return {"failed": str(error).strip().splitlines()[-1]}
    return cost | {"file": str(file_of(target).relative_to(FOLDER))}


def file_of(target):
    """Return the file or folder that was made."""
    record = target / "record.json"
    if not record.is_file():
        return target
    files = json.loads(record.read_text())["files"]
    return target / next(name for name in files if Path(name).name != "model.onnx")


def make_others(model):
    """Quantize by other tools."""
    source, folder = quality.teacher(model), FOLDER / model

    def optimum():
        made, fault = export_optimum(source, folder / "optimum", "")
        if fault:
            return {"failed": fault}
        file, cost = made["avx2"]
        return cost | {"file": str(file.relative_to(FOLDER))}

    def onnxruntime():
        cost = measured(
            [sys.executable, "-c", ONNXRUNTIME, str(folder / "optimum" / "model.onnx"), str(folder / "onnxruntime")]
        )
        shutil.copyfile(source / "config.json", folder / "onnxruntime" / "config.json")
        return cost | {"file": f"{model}/onnxruntime/model.onnx"}

    folder.mkdir(parents=True, exist_ok=True)
    RECORD.measure(f"{model}/{OPTIMUM}", optimum)
    RECORD.measure(f"{model}/{DEFAULT}", onnxruntime)


def compare(model, rounds):
    """Return quality, bytes and latency of every file that was made, beside PyTorch's and ONNX Runtime's in float32."""
    source, rows = quality.teacher(model), quality.data(42, "labelled")
    references, found = TASK.references(rows.validation), {}
    files = {"PyTorch, float32": source, "ONNX, float32": FOLDER / model / "int8" / "onnx" / "model.onnx"}
    cells = {name.partition("/")[2]: cell for name, cell in RECORD.read()["cells"].items() if name.startswith(model)}
    files |= {name: FOLDER / cell["file"] for name, cell in cells.items() if "file" in cell}
    models = {name: load_runnable(str(file), TASK, threads=1) for name, file in files.items()}
    models |= with_torchao(source)
    processor = quality.load_processor(str(source), TASK)
    answers = {name: predict(one, processor, rows.validation, TASK, rows.max_length) for name, one in models.items()}
    whole = answers["PyTorch, float32"]
    for name in models:
        found[name] = {
            "accuracy": score(answers[name], references, TASK).value,
            "difference_interval": difference(whole, answers[name], references, TASK),
            "agreement": float(np.mean(answers[name].argmax(-1) == whole.argmax(-1))),
            "bytes": size(files[name]) if name in files else torchao_bytes(models[name]),
            "latency": {},
        }
    for batch_size, length in SHAPES:
        calls = {name: model_call(one, TASK, batch_size, length) for name, one in models.items()}
        times = measure_latency(calls, rounds if batch_size == 1 else max(rounds // 8, 3), threads=1)
        for name, one in times.items():
            found[name]["latency"][f"{batch_size} x {length}"] = one.to_dict()
    return found


def with_torchao(source):
    """Return the model with torchao's int8 for linear layers, weights and activations; nothing where it is missing."""
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError:
        return {}
    model = quality.load_model(str(source), TASK)
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return {TORCHAO: model}


def torchao_bytes(model):
    """Return what the weights of such a model take, which 4.57's `save_pretrained` cannot write."""
    total = 0
    for parameter in {id(one): one for one in model.parameters()}.values():
        parts, _ = parameter.__tensor_flatten__() if hasattr(parameter, "__tensor_flatten__") else ([], None)
        held = [getattr(parameter, part) for part in parts] or [parameter]
        total += sum(one.numel() * one.element_size() for one in held)
    return total


def size(file):
    """Return the bytes of an ONNX file and of the weights beside it, or of a folder's weights."""
    found = [file] if file.is_file() else file.glob("*.safetensors")
    beside = file.parent.glob(f"{file.name}_data") if file.is_file() else ()
    return sum(part.stat().st_size for part in (*found, *beside))


def tables(result):
    """Return the results in Markdown, a table for each model."""
    return "\n\n".join(table(model, result) for model in result["latency"])


def table(model, result):
    """Return a row for each file."""
    rows, cells = result["latency"][model], result["cells"]
    dense, onnx = rows["PyTorch, float32"], rows["ONNX, float32"]
    lines = [
        f"| {TITLES[model]} | MB | times smaller | points (95 %) | ms, 1 × 128 | × ONNX float32 | × PyTorch "
        "| ms, 32 × 128 | seconds to make | peak memory, MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        cost = cells.get(f"{model}/{name}", {})
        ms, ms_onnx, ms_dense = (one["latency"]["1 x 128"]["median_ms"] for one in (row, onnx, dense))
        low, high = (100 * bound for bound in row["difference_interval"])
        lines.append(
            f"| {name} | {row['bytes'] / 1e6:.1f} | {dense['bytes'] / row['bytes']:.2f} "
            f"| {100 * (row['accuracy'] - dense['accuracy']):+.1f} ({low:+.1f} to {high:+.1f}) | {ms:.1f} "
            f"| {ms_onnx / ms:.2f} | {ms_dense / ms:.2f} "
            f"| {row['latency']['32 x 128']['median_ms']:.0f} | {_number(cost.get('seconds'))} "
            f"| {_number(cost.get('peak_bytes'), 1e6)} |"
        )
    failed = [f"Not made: {name}: {cell['failed']}" for name, cell in cells.items() if "failed" in cell]
    return "\n".join([*lines, "", *failed]).rstrip()


def _number(value, unit=1.0):
    return "" if value is None else f"{value / unit:.0f}"


if __name__ == "__main__":
    main()
