"""What is measured of a model that was compressed without training: shared by `pruning.py` and `low_rank.py`."""

import shutil
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
from models import WORK
from quality import TASK, data, teacher

from hfcompress.context import Context
from hfcompress.export.config import ExportConfig
from hfcompress.export.run import export_onnx
from hfcompress.measure.latency import measure_latency, model_call
from hfcompress.measure.quality import difference, predict, score
from hfcompress.memory import give_back
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.modeling.onnx_model import load_onnx

TITLES = {"minilm": "MiniLM-L6", "mpnet": "MPNet-base"}
SHAPES = ((1, 128), (1, 32), (32, 128))


def start(name, seed):
    """Return a fine-tuned model and a context that draws its rows with a seed, with an empty folder to work in."""
    source, rows = str(teacher(name)), data(seed, "labelled")
    model, processor = load_model(source, TASK), load_processor(source, TASK)
    scratch = WORK / "scratch-compressed"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return model, Context(TASK, rows, processor, seed, scratch, {}, progress=True)


def compressed(name, seed, target, compress):
    """Compress a model, save it, score it on the held-out sentences, load it by transformers' own means."""
    model, context = start(name, seed)
    whole, rows = work(model), context.data
    small = compress(model, context)
    answers = predict(small, context.processor, rows.validation, TASK, rows.max_length)
    small.save_pretrained(target)
    context.processor.save_pretrained(target)
    references, dense = TASK.references(rows.validation), dense_answers(name)
    return {
        "accuracy": score(answers, references, TASK).value,
        "dense_accuracy": score(dense, references, TASK).value,
        "difference_interval": difference(dense, answers, references, TASK),
        "agreement": float(np.mean(answers.argmax(-1) == dense.argmax(-1))),
        "macs": work(small),
        "dense_macs": whole,
        "parameters": sum(parameter.numel() for parameter in small.parameters()),
        "zeros": sum(int((parameter == 0).sum()) for parameter in small.parameters()),
        "reload": reload(target, small),
    }


@cache
def dense_answers(name):
    """Return the dense model's answers to the held-out sentences."""
    model, context = start(name, 1)
    return predict(model, context.processor, context.data.validation, TASK, context.data.max_length)


def work(model):
    """Return the multiply-accumulates for one text of 128 tokens, counted while the model answers."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    inputs = TASK.example_inputs(model.config, 1, 128)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(**inputs)
    return counter.get_total_flops() // 2


def reload(folder, small):
    """Say whether `AutoModel…from_pretrained` brings the model back; otherwise the beginning of what it says."""
    import torch
    from transformers import AutoModelForSequenceClassification

    try:
        again = AutoModelForSequenceClassification.from_pretrained(folder)
    except (RuntimeError, ValueError, OSError) as error:
        return f"no: {' '.join(str(error).split())[:120]}"
    inputs = TASK.example_inputs(small.config, 2, 32)
    with torch.no_grad():
        same = torch.allclose(again.eval()(**inputs).logits, small.eval()(**inputs).logits, atol=1e-5)
    return "yes" if same else "no: it answers otherwise"


def seconds(name, methods):
    """Return how long each method takes by itself, with all threads, once; and how many threads these are."""
    import torch

    found = {"threads": torch.get_num_threads()}
    for label, compress in methods.items():
        model, context = start(name, 1)
        begin = time.perf_counter()
        compress(model, context)
        found[label] = round(time.perf_counter() - begin, 1)
        print(f"{name}, {label}: {found[label]} s with {found['threads']} threads", flush=True)
    return found


def memory(name):
    """Return what Linux says of this process's memory, in bytes: `VmRSS` for now, `VmHWM` for the most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def reset_peak():
    """Begin `VmHWM` anew from what the process holds now, freed memory given back."""
    give_back()
    Path("/proc/self/clear_refs").write_text("5")


def latency(sources, rounds):
    """Export models, by label, and time the files in turns on one thread, against the first."""
    with tempfile.TemporaryDirectory(dir=WORK) as scratch:
        models = {}
        for number, (label, source) in enumerate(sources.items()):
            folder = Path(scratch, str(number))
            folder.mkdir()
            model, processor = load_model(source, TASK), load_processor(source, TASK)
            model.config.save_pretrained(folder)
            export_onnx(model, processor, TASK, folder, ExportConfig(), progress=False)
            for kind, file in (("fp32", "model.onnx"), ("int8", "model_quantized.onnx")):
                models[f"{label}: {kind}"] = load_onnx(folder / "onnx" / file, threads=1)
        found = {label: {} for label in models}
        for batch_size, length in SHAPES:
            calls = {label: model_call(model, TASK, batch_size, length) for label, model in models.items()}
            times = measure_latency(calls, rounds if batch_size == 1 else max(rounds // 8, 3), threads=1)
            for label, one in times.items():
                found[label][f"{batch_size} x {length}"] = one.to_dict()
    return found


def latency_table(result):
    """Return a row for each file, in Markdown."""
    shapes = " | ".join(f"ms, {batch_size} × {length}" for batch_size, length in SHAPES)
    tables = []
    for name, files in result["latency"].items():
        lines = [f"| {TITLES[name]}: ONNX file | {shapes} | × the dense fp32 |", "|---|---|---|---|---|"]
        for label, found in files.items():
            times = [found[f"{batch_size} x {length}"]["median_ms"] for batch_size, length in SHAPES]
            faster = 1 / found["1 x 128"]["ratio"]
            lines.append(f"| {label} | {' | '.join(f'{ms:.1f}' for ms in times)} | {faster:.2f} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)
