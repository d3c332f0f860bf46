"""What an exported file is worth: ours against Optimum's command line, in one run, on the same fine-tuned checkpoints.

MiniLM-L6 and MPNet-base, fine-tuned on Rotten Tomatoes sentences (1,000 held out). Ours is exported by both backends;
Optimum's by `optimum-cli export onnx`, plain and with -O1, -O2, -O3, each also in eight bits by its own `--avx2` preset
where it can. Each export is a process of its own: its seconds and its peak memory are that process's, children
included; beside them stands the bare process, with the same libraries imported and nothing done. Then all files answer
the held-out sentences and take turns at the clock. The native backend needs an environment with transformers 5:

    python benchmarks/export.py --transformers5 .venv-transformers5/bin/python
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import quality

from hfcompress.data import DataConfig, load_validation
from hfcompress.environment import hardware, versions
from hfcompress.measure.latency import measure_latency, model_call
from hfcompress.measure.quality import difference, predict, score
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.modeling.onnx_model import load_onnx
from hfcompress.tasks import find_task

RESULT = Path(__file__).parent / "results" / "export.json"
ROOT = Path(__file__).parents[1]
TASK = find_task("text-classification")
OPTIMIZATIONS = ["", "O1", "O2", "O3"]

BARE = "import numpy, torch, transformers, onnx, onnxruntime, onnxruntime.quantization, hfcompress.measure.quality"
BARE_OPTIMUM = "import optimum.exporters.onnx, optimum.onnxruntime"
BARE_NATIVE = "import transformers.exporters.exporter_onnx"
OURS = """
import sys
from pathlib import Path
from hfcompress.export.config import ExportConfig
from hfcompress.export.run import export_onnx
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.tasks import find_task
source, target, backend = sys.argv[1:]
task = find_task("text-classification")
Path(target).mkdir()
record = export_onnx(
    load_model(source, task), load_processor(source, task), task, Path(target), ExportConfig(backend=backend)
)
"""


def measured(command):
    """Run a command; return its seconds and its peak memory in bytes, that of its children included."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(map(str, command))[:200]} failed:\n{printed[-3000:]}")
    return {"seconds": time.perf_counter() - start, "peak_bytes": usage.ru_maxrss * 1024}


def bare(python, *imports):
    """Measure a process that imports what an exporting one does, and does nothing."""
    return measured([python, "-c", "\n".join([BARE, *imports])])


def export_ours(python, source, target, backend):
    """Export by one of our backends."""
    return measured([python, "-c", OURS, str(source), str(target), backend])


def export_optimum(source, target, level):
    """Export by Optimum's command line, and quantize by its own preset; a level that it cannot quantize says so."""
    optimum = str(Path(sys.executable).with_name("optimum-cli"))
    task = ["--task", TASK.name]
    cost = measured([optimum, "export", "onnx", "--model", source, *task, *_level(level), target])
    made = {"": (target / "model.onnx", cost)}
    eight = target.with_name(f"{target.name}-avx2")
    try:
        more = measured([optimum, "onnxruntime", "quantize", "--onnx_model", target, "--avx2", "-o", eight])
    except SystemExit as error:
        return made, str(error).strip().splitlines()[-1]
    file = next(eight.glob("*.onnx"))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(Path(source) / name, eight / name)
    whole = {
        "seconds": cost["seconds"] + more["seconds"],
        "peak_bytes": max(cost["peak_bytes"], more["peak_bytes"]),
    }
    return {**made, "avx2": (file, whole)}, None


def _level(level):
    return ["--optimize", level] if level else []


def export_all(source, folder, python5):
    """Return file and cost by name, and what could not be made."""
    files, failed = {}, {}
    backends = {"optimum": sys.executable, "native": python5}
    for backend, python in backends.items():
        if python is None:
            failed[f"ours, {backend}"] = "no environment with transformers 5 was given"
            continue
        target = folder / f"ours-{backend}"
        cost = export_ours(python, source, target, backend)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(Path(source) / name, target / name)
        files[f"ours, {backend}: fp32"] = (target / "onnx" / "model.onnx", cost)
        files[f"ours, {backend}: int8"] = (target / "onnx" / "model_quantized.onnx", cost)
    for level in OPTIMIZATIONS:
        made, fault = export_optimum(source, folder / f"optimum{level}", level)
        for suffix, (file, cost) in made.items():
            name = f"Optimum {level}".strip()
            files[f"{name}: {'int8, avx2 preset' if suffix else 'fp32'}"] = (file, cost)
        if fault:
            failed[f"Optimum {level}: int8, avx2 preset"] = fault
    return files, failed


def compare(source, files, rounds, threads):
    """Return quality, bytes and latency of every file beside PyTorch's."""
    data = load_validation(DataConfig(**quality.DATA), ("negative", "positive"), 42, TASK, None)
    references = TASK.references(data.validation)
    processor = load_processor(str(source), TASK)
    models = {"PyTorch": load_model(str(source), TASK)}
    models |= {name: load_onnx(file, threads=threads) for name, (file, _) in files.items()}
    answers = {name: predict(m, processor, data.validation, TASK, data.max_length) for name, m in models.items()}
    rows = {}
    for name in models:
        found = score(answers[name], references, TASK)
        rows[name] = {
            "accuracy": found.value,
            "interval": found.interval,
            "difference_interval": difference(answers["PyTorch"], answers[name], references, TASK),
            "agreement": float(np.mean(answers[name].argmax(-1) == answers["PyTorch"].argmax(-1))),
            "bytes": size(files[name][0]) if name in files else (Path(source) / "model.safetensors").stat().st_size,
            "latency": {},
        }
    for batch_size, length in ((1, 128), (1, 32), (32, 128)):
        calls = {name: model_call(model, TASK, batch_size, length) for name, model in models.items()}
        times = measure_latency(calls, rounds if batch_size == 1 else max(rounds // 8, 3), threads=threads)
        for name, found in times.items():
            rows[name]["latency"][f"{batch_size} x {length}"] = found.to_dict()
    return rows


def size(file):
    """Return the bytes of an ONNX file and of the weights beside it."""
    return sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))


def run_pair(name, options):
    """Measure one checkpoint."""
    source = quality.teacher(name)
    with tempfile.TemporaryDirectory(dir=quality.WORK) as scratch:
        files, failed = export_all(source, Path(scratch), options.transformers5)
        rows = compare(source, files, options.rounds, options.threads)
        for label, (_, cost) in files.items():
            rows[label] |= cost
    weights = (Path(source) / "model.safetensors").stat().st_size
    return {"weights_bytes": weights, "rows": rows, "failed": failed}


def main():
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="minilm,mpnet")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--transformers5", help="python of an environment with transformers 5, for the native backend")
    parser.add_argument("--table", action="store_true", help="only print the table of the committed results")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(RESULT.read_text())))
        return
    record = json.loads(RESULT.read_text()) if RESULT.is_file() else {"models": {}}
    record |= {
        "settings": {"rounds": options.rounds, "threads": options.threads},
        "hardware": hardware(),
        "versions": versions(),
        "bare": {"optimum": bare(sys.executable, BARE_OPTIMUM)},
    }
    if options.transformers5:
        record["bare"]["native"] = bare(options.transformers5, BARE_NATIVE)
    for name in options.models.split(","):
        record["models"][name] = run_pair(name, options)
        RESULT.write_text(json.dumps(record, indent=2, default=str) + "\n")
    print(table(record))


def table(record):
    """Return the results in Markdown, a table a checkpoint."""
    parts = []
    for name, found in record["models"].items():
        parts += [f"### {TITLES[name]}", _rows(found, record["bare"]), _failures(found["failed"])]
    return "\n\n".join(filter(None, parts))


TITLES = {"minilm": "MiniLM-L6 (22.7 M parameters)", "mpnet": "MPNet-base (109 M parameters)"}


def _rows(found, bare_cost):
    preset = found["rows"].get("Optimum: int8, avx2 preset", {}).get("latency", {})
    lines = [
        "| file | MB | accuracy % (95 %) | agrees with PyTorch | ms, 1 × 128 | ms, 1 × 32 | ms, 32 × 128 "
        "| × Optimum's int8 | seconds to export | memory beyond the bare process, × the weights |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        low, high = (100 * bound for bound in row["interval"])
        times = [f"{row['latency'][case]['median_ms']:.1f}" for case in ("1 x 128", "1 x 32", "32 x 128")]
        faster = f"{preset['1 x 128']['median_ms'] / row['latency']['1 x 128']['median_ms']:.2f}" if preset else ""
        seconds, memory = "", ""
        if "seconds" in row:
            base = bare_cost["native" if "native" in name else "optimum"]["peak_bytes"]
            seconds, memory = f"{row['seconds']:.0f}", f"{(row['peak_bytes'] - base) / found['weights_bytes']:.1f}"
        lines.append(
            f"| {name} | {row['bytes'] / 1e6:.1f} | {100 * row['accuracy']:.1f} ({low:.1f}–{high:.1f}) "
            f"| {100 * row['agreement']:.1f} % | {' | '.join(times)} | {faster} | {seconds} | {memory} |"
        )
    return "\n".join(lines)


def _failures(failed):
    return "\n".join(f"Not made: {name}: {why}" for name, why in failed.items())


if __name__ == "__main__":
    main()
