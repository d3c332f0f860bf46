"""A whole output folder to write cards for: a student of two layers, its ONNX files, measured against its teacher."""

import copy
import json

QUALITY = {"metrics": {"accuracy": 0.837, "f1_macro": 0.83}, "main": "accuracy", "interval": [0.81, 0.86], "rows": 1000}
TIME = {"median_ms": 42.49, "p95_ms": 44.1, "ratio": 1.0, "ratio_interval": [1.0, 1.0]}


def classes(negative, positive, rows=500):
    """Results of two classes from their recalls."""
    taken = [
        [round(rows * negative), rows - round(rows * negative)],
        [rows - round(rows * positive), round(rows * positive)],
    ]
    scores = [
        {
            "label": label,
            "support": rows,
            "precision": taken[i][i] / sum(row[i] for row in taken),
            "recall": recall,
            "f1": 0.8,
        }
        for i, (label, recall) in enumerate([("negative", negative), ("positive", positive)])
    ]
    return {"classes": scores, "confusion": taken}


MEASUREMENTS = {
    "task": "text-classification",
    "main_metric": "accuracy",
    "labels": ["negative", "positive"],
    "rows": 1000,
    "dataset": "reviews.csv",
    "settings": {"seed": 42, "max_length": 64, "rounds": 40},
    "hardware": {"processor": "AMD EPYC", "cores": 2, "accelerator": None, "system": "Linux x86_64"},
    "versions": {"hfcompress": "0.1.0", "onnxruntime": "1.20"},
    "models": [
        {
            "name": "teacher",
            "runtime": "PyTorch",
            "precision": "float32",
            "file": None,
            "bytes": 90867952,
            "parameters": 22713986,
            "macs": 1434600192,
            "length": 128,
            "peak_memory_bytes": 310e6,
            "quality": {**QUALITY, "difference_interval": [0.0, 0.0]},
            "latency": TIME,
            "latencies": [
                {"threads": 1, "batch_size": 1, "length": 128, **TIME},
                {"threads": 2, "batch_size": 32, "length": 32, **TIME, "median_ms": 300.0},
            ],
            **classes(0.85, 0.824),
        },
        {
            "name": "student",
            "runtime": "PyTorch",
            "precision": "float32",
            "file": "model.safetensors",
            "bytes": 69568832,
            "parameters": 17390594,
            "macs": 717374208,
            "components": {"embeddings": 11918592, "attention": 1774080, "ffn": 3544704, "head": 153218},
            "length": 128,
            "peak_memory_bytes": 280e6,
            "quality": {
                **QUALITY,
                "metrics": {"accuracy": 0.821, "f1_macro": 0.82},
                "interval": [0.797, 0.845],
                "difference_interval": [-0.036, 0.004],
            },
            "latency": {"median_ms": 21.6, "p95_ms": 23.7, "ratio": 0.508, "ratio_interval": [0.504, 0.517]},
            **classes(0.74, 0.902),
        },
        {
            "name": "student",
            "runtime": "ONNX Runtime",
            "precision": "int8",
            "file": "onnx/model_quantized.onnx",
            "bytes": 17600000,
            "parameters": None,
            "macs": None,
            "length": 128,
            "peak_memory_bytes": 320e6,
            "quality": {
                **QUALITY,
                "metrics": {"accuracy": 0.82, "f1_macro": 0.818},
                "interval": [0.796, 0.844],
                "difference_interval": [-0.037, 0.003],
            },
            "latency": {"median_ms": 11.2, "p95_ms": 12.9, "ratio": 0.264, "ratio_interval": [0.26, 0.27]},
            "latencies": [
                {"threads": 1, "batch_size": 1, "length": 128, "median_ms": 11.2, "ratio": 0.264},
                {
                    "threads": 2,
                    "batch_size": 32,
                    "length": 32,
                    "median_ms": 330.0,
                    "ratio": 1.1,
                    "ratio_interval": [0.9, 1.2],
                },
            ],
            **classes(0.742, 0.898),
        },
    ],
    "examples": [
        {"input": "a private text", "label": "positive", "answers": {"teacher": "positive", "student": "negative"}}
    ],
    "examples_total": 37,
}

RECORD = {
    "fingerprint": "74e74e80d6d6",
    "description": "A teacher teaches its own two layers.",
    "task": "text-classification",
    "source": {
        "model": "google-bert/bert-base-uncased",
        "revision": "86b5e0934494bd15c9632b12f734a8a67f723594",
        "card": {"license": "apache-2.0", "language": ["en"]},
    },
    "data": {
        "dataset": "reviews.csv",
        "training_rows": 7530,
        "unlabeled_rows": 0,
        "validation_rows": 1000,
        "labels": ["negative", "positive"],
        "max_length": 64,
        "overlap": 3,
        "statistics": {
            "training": {
                "rows": 7530,
                "labels": {"negative": 6024, "positive": 1506},
                "length": {"median": 25, "p95": 70, "max": 90},
            },
            "validation": {"rows": 1000, "labels": {"negative": 500, "positive": 500}},
        },
    },
    "seed": 42,
    "steps": [
        {
            "name": "teacher",
            "method": "finetune",
            "config": {"num_train_epochs": 2.0},
            "seconds": 244.6,
            "before": None,
            "after": QUALITY,
        },
        {
            "name": "student",
            "method": "distill",
            "config": {"student": "cut:layers=2", "losses": {"kl": {"weight": 0.7, "temperature": 2.0}, "task": 0.3}},
            "seconds": 198.3,
            "before": QUALITY,
            "after": {**QUALITY, "metrics": {"accuracy": 0.821}},
        },
    ],
    "results": [],
    "versions": {"hfcompress": "0.1.0", "torch": "2.13.0"},
    "hardware": MEASUREMENTS["hardware"],
    "emissions": {"kg_co2eq": 0.00123, "tool": "codecarbon"},
    "export": {
        "backend": "optimum",
        "opset": 18,
        "files": {},
        "validation": {"cases": [{}, {}, {}], "largest_difference": 1.2e-6, "label_agreement": 0.99996},
        "fused": True,
        "quantization": {
            "method": "dynamic int8",
            "nodes": {"MatMul": 36, "Gather": 3},
            "kept_float": ["/classifier/Gemm"],
        },
        "seconds": 12.3,
    },
}

CONFIG = {"model_type": "bert", "num_hidden_layers": 2, "id2label": {"0": "negative", "1": "positive"}}


def make_folder(folder, record=None, measurements=None, config=None, files=None):
    """Write an output folder; a part that is given as {} is written empty, and `measurements` as False not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "compression.json": RECORD if record is None else record,
        "measurements.json": MEASUREMENTS if measurements is None else measurements,
        "config.json": CONFIG if config is None else config,
    }
    for name, values in parts.items():
        if values is not False:
            (folder / name).write_text(json.dumps(values), encoding="utf-8")
    usual = ("model.safetensors", "onnx/model.onnx", "onnx/model_quantized.onnx", "figures/tradeoff.png", "report.html")
    for name in usual if files is None else files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def changed(values, path, new):
    """A deep copy with one value replaced."""
    made = copy.deepcopy(values)
    place = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return made


def texts(values, path=()):
    """The places of all texts in nested values, mapping keys apart."""
    inside = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in inside:
        yield from ([(*path, key)] if isinstance(value, str) else texts(value, (*path, key)))
