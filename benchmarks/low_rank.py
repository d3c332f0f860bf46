"""Low rank without training: accuracy against parameters for each method, ranks alike and shared out, several seeds.

MiniLM-L6 and MPNet-base, fine-tuned on Rotten Tomatoes sentences (1,000 held out); the linear layers of the encoder
keep a share of their parameters, from 512 training sentences. No setting was chosen on the held-out ones. Each cell is
written to benchmarks/results/low_rank.json as soon as it is done; one that is there is not run again.

    python benchmarks/low_rank.py --models minilm
    python benchmarks/low_rank.py --models mpnet --methods svd,activation+fisher --ranks shared --shares 0.5
    python benchmarks/low_rank.py --models minilm --methods head_size,embeddings --ranks shared --shares 0.5,0.25
    python benchmarks/low_rank.py --cost                            # seconds and memory, on a quiet machine
    python benchmarks/low_rank.py --latency                         # of the first seed's, on a quiet machine
    python benchmarks/low_rank.py --table
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
from compressed import TITLES, compressed, dense_answers, latency, latency_table, memory, reset_peak, start
from models import WORK
from quality import teacher
from report import Record

from hfcompress.factorization.activation import ActivationConfig, activation
from hfcompress.factorization.embeddings import EmbeddingsConfig, embeddings
from hfcompress.factorization.fwsvd import FwsvdConfig, fwsvd
from hfcompress.factorization.head_size import HeadSizeConfig, head_size
from hfcompress.factorization.svd import SvdConfig, svd

RECORD = Record("low_rank", __doc__.split("\n")[0])
FOLDER = WORK / "low-rank"
METHODS = {
    "svd": (svd, SvdConfig, {}),
    "fwsvd": (fwsvd, FwsvdConfig, {}),
    "activation": (activation, ActivationConfig, {"fisher": False, "focus": 0.0}),
    "activation+fisher": (activation, ActivationConfig, {}),
}
FFN = "activation+fisher (FFN)"
PARTS = {
    FFN: (activation, ActivationConfig, {"exclude": ["*.attention.*"]}, "the feed-forward layers"),
    "head_size": (head_size, HeadSizeConfig, {}, "attention"),
    "head_size (weights alone)": (head_size, HeadSizeConfig, {"data": False}, "attention"),
    "embeddings": (embeddings, EmbeddingsConfig, {}, "the table of tokens"),
    "embeddings (weights alone)": (
        embeddings,
        EmbeddingsConfig,
        {"fisher": False, "frequency": False},
        "the table of tokens",
    ),
}
"""Methods for a part of the model, and which; shares are of its parameters."""
RANKS = {"alike": "rank_ratio", "shared": "target_params"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="minilm,mpnet")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--ranks", default=",".join(RANKS), help="one ratio for all (alike), or a budget (shared)")
    parser.add_argument("--shares", default="0.75,0.6,0.5,0.4", help="of the linear layers' parameters that are kept")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--cost", action="store_true", help="seconds and memory of each method, at half the parameters")
    parser.add_argument("--alone", action="store_true", help="the same of one method in this process, and print it")
    parser.add_argument("--latency", action="store_true", help="export what was factorized, and time it")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    methods = options.methods.split(",")
    for model in [] if options.table else options.models.split(","):
        if options.alone:
            print(json.dumps(_cost(model, methods[0])))
            return
        if options.cost:
            known = RECORD.read()["seconds"].get(model, {})
            RECORD.write("seconds", model, known | {method: _in_its_own_process(model, method) for method in methods})
        elif options.latency:
            RECORD.write("latency", model, latency(_sources(model), options.rounds))
        else:
            for seed in options.seeds.split(","):
                for share in options.shares.split(","):
                    for ranks in options.ranks.split(","):
                        for method in methods:
                            _measure(model, method, ranks, share, seed)
    print(tables(RECORD.read()))


def _measure(model, method, ranks, share, seed):
    if method == "svd" and seed != "1":
        return  # it looks at no rows
    name = f"{model}/{method}/{ranks}/{share}/{seed}"
    compress = _method(method, ranks, float(share))
    RECORD.measure(name, lambda: compressed(model, int(seed), FOLDER / name, compress))


def _method(method, ranks, share):
    """Return a function that factorizes a model in a context."""
    step, config, options, *_ = (METHODS | PARTS)[method]
    return lambda model, context: step(model, config(**{RANKS[ranks]: share}, **options), context)


def _in_its_own_process(model, method):
    """Return seconds and memory of a method in a fresh process, with all threads."""
    words = [sys.executable, __file__, "--models", model, "--methods", method, "--alone"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{model}, {method}: {found}", flush=True)
    return found


def _cost(name, method):
    """Factorize a model; return the seconds, and the memory beyond what stood before the model, in models."""
    import torch

    dense_answers(name)  # so that what the first answer loads is there
    model, context = start(name, 1)
    size = sum(parameter.nbytes for parameter in model.parameters())
    sum(float(parameter.sum()) for parameter in model.parameters())  # a file's pages are in memory once they were read
    before = memory("VmRSS") - size
    reset_peak()
    begin = time.perf_counter()
    _method(method, "shared", 0.5)(model, context)
    seconds = round(time.perf_counter() - begin, 1)
    models = round((memory("VmHWM") - before) / size, 2)
    return {"seconds": seconds, "memory": models, "threads": torch.get_num_threads()}


def _sources(model):
    """Return the folders that are timed, by label: the dense model, and those of the default method, first seed."""
    labels = {}
    for method, what in (("activation+fisher", "linear layers"), (FFN, "feed-forward layers")):
        kept = f"{model}/{method}/shared/"
        cells = [name for name in RECORD.read()["cells"] if name.startswith(kept) and name.endswith("/1")]
        labels |= {name: f"{float(name.split('/')[3]):.0%} of the {what}" for name in cells}
    return {"dense": str(teacher(model)), **{labels[name]: str(FOLDER / name) for name in cells}}


def tables(result):
    """Return the results in Markdown: accuracy by method and share, then the ONNX files' times."""
    return "\n\n".join(
        part
        for part in (accuracy_table(result), parts_table(result), cost_table(result), latency_table(result))
        if part
    )


def accuracy_table(result):
    """Return a row for each model, share and way to choose ranks; means over seeds and their range."""
    found = {}
    for name, cell in result["cells"].items():
        model, method, ranks, share, _ = name.split("/")
        if method in PARTS:
            continue
        row = found.setdefault((model, -float(share), ranks), {})
        row.setdefault(method, []).append(100 * (cell["accuracy"] - cell["dense_accuracy"]))
    lines = [f"| model | parameters kept | ranks | {' | '.join(METHODS)} |", "|---" * (3 + len(METHODS)) + "|"]
    for (model, share, ranks), row in sorted(found.items()):
        cells = [_cell(row.get(method, [])) for method in METHODS]
        lines.append(f"| {TITLES[model]} | {-share:.0%} | {ranks} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parts_table(result):
    """Return a row for each model and method for a part of it, by how much of the part is kept; nothing without any."""
    found = {}
    for name, cell in result["cells"].items():
        model, method, _, share, _ = name.split("/")
        if method in PARTS:
            row = found.setdefault((model, method), {})
            row.setdefault(float(share), []).append(100 * (cell["accuracy"] - cell["dense_accuracy"]))
    shares = sorted({share for row in found.values() for share in row}, reverse=True)
    lines = [f"| model | method | of | {' | '.join(f'{share:.0%}' for share in shares)} |"]
    lines.append("|---" * (3 + len(shares)) + "|")
    for (model, method), row in sorted(found.items()):
        cells = " | ".join(_cell(row.get(share, [])) for share in shares)
        lines.append(f"| {TITLES[model]} | {method} | {PARTS[method][-1]} | {cells} |")
    return "\n".join(lines) if found else ""


def cost_table(result):
    """Return what each method costs at half of the parameters: seconds, and memory; nothing without any."""
    found = [(model, method, one) for model, row in result["seconds"].items() for method, one in row.items()]
    lines = ["| model | method | seconds | peak memory, models | threads |", "|---|---|---|---|---|"]
    for model, method, one in found:
        lines.append(f"| {TITLES[model]} | {method} | {one['seconds']} | {one['memory']} | {one['threads']} |")
    return "\n".join(lines) if found else ""


def _cell(drops):
    if not drops:
        return ""
    return f"{np.mean(drops):+.1f} ({min(drops):+.1f} to {max(drops):+.1f})" if len(drops) > 1 else f"{drops[0]:+.1f}"


if __name__ == "__main__":
    main()
