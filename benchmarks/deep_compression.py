"""Deep Compression: what shared weights, zeros and entropy coding make of MiniLM-L6, and what that costs.

MiniLM-L6, fine-tuned on Rotten Tomatoes sentences; 1,000 sentences are held out, and nothing was chosen on them.
`shared` cells have k-means alone, without training. `recipe` cells run the recipe deep-compression from the fine-tuned
model on, one cell a seed. `codecs` packs folders and compresses their
weights by zstandard (level 19) and LZMA in the same run. Each cell is written to
benchmarks/results/deep_compression.json as soon as it is done; one that is there is not run again.

    python benchmarks/deep_compression.py --parts shared           # a quarter of an hour
    python benchmarks/deep_compression.py --parts recipe --seeds 1 # half an hour each
    python benchmarks/deep_compression.py --parts codecs           # after these two; pip install zstandard==0.25.0
    python benchmarks/deep_compression.py --table
"""

import argparse
import lzma
import shutil
import time
from dataclasses import replace
from pathlib import Path

from models import WORK
from quality import DATA, TASK, data, teacher, teacher_accuracy
from report import Record

from hfcompress.clustering.container import pack, unpack
from hfcompress.clustering.kmeans import KmeansConfig, kmeans
from hfcompress.context import Context
from hfcompress.measure.quality import predict, score
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.pipeline.job import prepare
from hfcompress.pipeline.recipe import build_recipe, read_recipe, shipped_recipes
from hfcompress.pipeline.runner import run

RECORD = Record("deep_compression", __doc__.split("\n")[0])
FOLDER = WORK / "deep-compression"
SHARED = {
    "8 clusters": {"clusters": 8},
    "8 clusters, outliers 0.0045": {"clusters": 8, "outliers": 0.0045},
    "8 clusters, Fisher": {"clusters": 8, "fisher": True},
    "16 clusters": {"clusters": 16},
    "16 clusters, bit price 0.02": {"clusters": 16, "bit_price": 0.02},
    "32 clusters": {"clusters": 32},
    "32 clusters, bit price 0.01": {"clusters": 32, "bit_price": 0.01},
}
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
"""A checkpoint, without the record and the report beside it."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="shared,recipe,codecs")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    parts = [] if options.table else options.parts.split(",")
    settings = {"dense": teacher_accuracy("minilm"), "recipe": recipe_steps()}
    if "shared" in parts:
        for name, config in SHARED.items():
            RECORD.measure(f"shared/{name}", lambda c=config: shared(c), **settings)
    if "recipe" in parts:
        for seed in map(int, options.seeds.split(",")):
            RECORD.measure(f"recipe/{seed}", lambda s=seed: recipe(s), **settings)
    if "codecs" in parts:
        RECORD.measure("codecs/dense", lambda: codecs(Path(teacher("minilm"))))
        RECORD.measure("codecs/recipe", lambda: codecs(FOLDER / "recipe-1"))
    print(tables(RECORD.read()))


def start():
    """Return the fine-tuned model and a context with an empty folder to work in."""
    source, scratch = str(teacher("minilm")), FOLDER / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    processor = load_processor(source, TASK)
    return load_model(source, TASK), Context(TASK, data(1, "labelled"), processor, 1, scratch, {}, progress=True)


def accuracy(model, context):
    """Score a model on the held-out sentences."""
    rows = context.data.validation
    answers = predict(model, context.processor, rows, TASK, context.data.max_length)
    return score(answers, TASK.references(rows), TASK).value


def packed(model, context, name):
    """Save a model with its tokenizer, pack the folder; return both sizes."""
    folder = context.work_dir / name
    model.save_pretrained(folder)
    context.processor.save_pretrained(folder)
    report = pack(folder, context.work_dir / f"{name}.hfz")
    return {"packed_bytes": report.bytes, "folder_bytes": report.unpacked_bytes}


def shared(options):
    """Share weights without training."""
    model, context = start()
    model = kmeans(model, KmeansConfig(**options), context)
    return {"accuracy": accuracy(model, context), **packed(model, context, "shared")}


def recipe_steps():
    """Return the recipe's steps behind the fine-tuning."""
    return read_recipe(shipped_recipes()["deep-compression"]).steps[1:]


def recipe(seed):
    """Run the recipe's steps on the fine-tuned model; held out are the sentences that it has not seen either."""
    values = {"model": str(teacher("minilm")), "task": TASK.name, "seed": seed, "data": DATA, "pack": "model.hfz"}
    job, folder = prepare(build_recipe({**values, "steps": recipe_steps()})), FOLDER / f"recipe-{seed}"
    record = run(replace(job, data=data(seed, "labelled")), folder, overwrite=True, say=print)
    return {
        "accuracy": record["results"][-1]["quality"]["metrics"]["accuracy"],
        "packed_bytes": record["packed"]["bytes"],
        "folder_bytes": folder_bytes(teacher("minilm")),
        "steps": {step["name"]: step["after"]["metrics"]["accuracy"] for step in record["steps"]},
        "seconds": round(sum(step["seconds"] for step in record["steps"]), 1),
    }


def folder_bytes(folder):
    """Return what the model, its config and its tokenizer weigh before anything is done."""
    return sum((folder / name).stat().st_size for name in FILES)


def codecs(folder):
    """Pack and unpack a folder's weights, with their config, and compress the weights by other tools."""
    import zstandard

    raw, found, bare = (folder / "model.safetensors").read_bytes(), {}, FOLDER / "bare"
    shutil.rmtree(bare, ignore_errors=True)
    bare.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(folder / name, bare / name)
    begin = time.perf_counter()
    report = pack(bare, FOLDER / "codec.hfz", overwrite=True)
    found["hfz"] = {"bytes": report.bytes, "pack_seconds": round(time.perf_counter() - begin, 2)}
    begin = time.perf_counter()
    shutil.rmtree(FOLDER / "unpacked", ignore_errors=True)
    unpack(FOLDER / "codec.hfz", FOLDER / "unpacked")
    found["hfz"]["unpack_seconds"] = round(time.perf_counter() - begin, 2)
    found["same"] = (FOLDER / "unpacked" / "model.safetensors").read_bytes() == raw
    found["folder_bytes"], found["weights_bytes"] = report.unpacked_bytes, len(raw)
    tools = {
        "zstandard": (zstandard.ZstdCompressor(level=19).compress, zstandard.ZstdDecompressor().decompress),
        "lzma": (lzma.compress, lzma.decompress),
    }
    for name, (press, expand) in tools.items():
        begin = time.perf_counter()
        small = press(raw)
        middle = time.perf_counter()
        expand(small)
        seconds = {"pack_seconds": round(middle - begin, 2), "unpack_seconds": round(time.perf_counter() - middle, 2)}
        found[name] = {"bytes": len(small), **seconds}
    return found


def tables(result):
    """Return the results in Markdown."""
    dense = result["dense"]
    lines = ["| | .hfz, MB | times smaller than the folder | points to the dense model |", "|---|---|---|---|"]
    for name, one in result["cells"].items():
        kind, _, label = name.partition("/")
        if kind != "codecs":
            said = label if kind == "shared" else f"the recipe, seed {label}"
            ratio = one["folder_bytes"] / one["packed_bytes"]
            points = 100 * (one["accuracy"] - dense)
            lines.append(f"| {said} | {one['packed_bytes'] / 1e6:.2f} | {ratio:.1f} | {points:+.1f} |")
    parts = ["\n".join(lines)] if len(lines) > 2 else []
    found = {name.partition("/")[2]: one for name, one in result["cells"].items() if name.startswith("codecs/")}
    for name, one in found.items():
        what = "the fine-tuned checkpoint" if name == "dense" else "what the recipe leaves"
        rows = [f"| {what} | MB | packing, s | unpacking, s |", "|---|---|---|---|"]
        for tool in ("hfz", "zstandard", "lzma"):
            cell = one[tool]
            rows.append(f"| {tool} | {cell['bytes'] / 1e6:.2f} | {cell['pack_seconds']} | {cell['unpack_seconds']} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
