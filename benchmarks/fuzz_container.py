"""Coverage-guided fuzzing of the reader of `.hfz` files: garbage is refused, in bounded time and memory.

`codes` mutates single streams, which no checksum guards; `files` mutates whole containers. A finding stops the run and
leaves the input in a file. What stands behind `--` goes to libFuzzer.

    pip install atheris==3.0.0
    python benchmarks/fuzz_container.py codes -- -max_total_time=300
    python benchmarks/fuzz_container.py files -- -max_total_time=300
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["hfcompress.clustering"]):
    from hfcompress.clustering.container import pack, unpack
    from hfcompress.clustering.container.coding import code_bytes, code_values, read_values
    from hfcompress.clustering.huffman import DamagedCodeError
from hfcompress.errors import ModelError

CODINGS = ("planes", "codebook", "lzma")
WORDS = (1, 2, 4, 8)
LIMITS = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=4096"]
"""What an input of 4 kB may take: a frame of 16 MiB comes out at most."""


def codes(data):
    """Read a stream; its first bytes say how, and what is announced."""
    if len(data) < 4:
        return
    word = WORDS[data[1] % len(WORDS)]
    size = int.from_bytes(data[2:4], "little") * word
    try:
        values = read_values(CODINGS[data[0] % len(CODINGS)], data[4:], size, word)
    except DamagedCodeError:
        return
    if len(values) != size:
        raise AssertionError(f"{size} bytes were announced, and {len(values)} came out")


def files(data):
    """Unpack a file into a folder that is there or is not."""
    with tempfile.TemporaryDirectory() as place:
        file, folder = Path(place, "model.hfz"), Path(place, "out")
        file.write_bytes(data)
        try:
            unpack(file, folder)
        except ModelError:
            if folder.exists():
                raise AssertionError("a folder is left of what was refused") from None


def begin(target, corpus):
    """Write inputs to begin with."""
    generator = np.random.default_rng(0)
    shared = generator.choice(np.array([0, 0, 0, 0.5, -0.25], dtype=np.float32), 512)
    spread = generator.standard_normal(256).astype(np.float32)
    if target == "files":
        folder = corpus.with_name("model")
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
        pack(folder, corpus / "model.hfz")
        return
    for number, values in enumerate((shared, spread)):
        coding, coded = code_values(values.view("<u4"), 32)
        head = bytes([CODINGS.index(coding), WORDS.index(4), *len(values).to_bytes(2, "little")])
        (corpus / str(number)).write_bytes(head + coded)
    text = b"the same words again, " * 20
    coding, coded = code_bytes(text)
    (corpus / "text").write_bytes(bytes([CODINGS.index(coding), 0, *len(text).to_bytes(2, "little")]) + coded)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("codes", "files"))
    parser.add_argument("more", nargs="*", help="what libFuzzer is to know, behind --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place, "corpus")
        corpus.mkdir()
        begin(options.target, corpus)
        atheris.Setup(
            [sys.argv[0], *LIMITS, *options.more, str(corpus)], {"codes": codes, "files": files}[options.target]
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
