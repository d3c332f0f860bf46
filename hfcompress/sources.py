"""Where models and data come from: short names, local folders, the Hub, and files that installed packages ship."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hfcompress.errors import Fault, ModelError, NetworkError, RequestError

SHORT_NAMES = {
    "albert-base": "albert/albert-base-v2",
    "bert-base": "google-bert/bert-base-uncased",
    "bert-large": "google-bert/bert-large-uncased",
    "bert-tiny": "google/bert_uncased_L-2_H-128_A-2",
    "bert-mini": "google/bert_uncased_L-4_H-256_A-4",
    "bert-small": "google/bert_uncased_L-4_H-512_A-8",
    "bert-medium": "google/bert_uncased_L-8_H-512_A-8",
    "distilbert": "distilbert/distilbert-base-uncased",
    "distilroberta": "distilbert/distilroberta-base",
    "electra-small": "google/electra-small-discriminator",
    "electra-base": "google/electra-base-discriminator",
    "minilm-l6-h384": "nreimers/MiniLM-L6-H384-uncased",
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "mobilebert": "google/mobilebert-uncased",
    "mobilenet-v1": "google/mobilenet_v1_1.0_224",
    "mobilenet-v2": "google/mobilenet_v2_1.0_224",
    "mpnet-base": "microsoft/mpnet-base",
    "resnet-18": "microsoft/resnet-18",
    "roberta-base": "FacebookAI/roberta-base",
    "roberta-large": "FacebookAI/roberta-large",
    "squeezebert": "squeezebert/squeezebert-uncased",
    "tinybert": "huawei-noah/TinyBERT_General_4L_312D",
    "xlm-r-base": "FacebookAI/xlm-roberta-base",
}
"""Well-known names and the Hub ids that they stand for."""

PACKAGE_SCHEME = "package:"


def resolve(source: str) -> str:
    """Turn what a user typed into a local path or a Hub id.

    A path that exists wins, then a short name; `package:NAME/path` is a file or folder inside an installed package.

    Example:
        >>> resolve("bert-base")
        'google-bert/bert-base-uncased'

    Raises:
        RequestError: The package is not installed or does not ship that path.
    """
    if source.startswith(PACKAGE_SCHEME):
        return str(package_path(source))
    if Path(source).exists():
        return source
    return SHORT_NAMES.get(source, source)


def package_path(source: str) -> Path:
    """Return the path of a file or folder that an installed package ships, without importing the package.

    Raises:
        RequestError: The package is not installed, does not ship the path, or the path leaves the package.
    """
    package, _, inside = source.removeprefix(PACKAGE_SCHEME).partition("/")
    if not package.isidentifier() or ".." in Path(inside).parts or Path(inside).is_absolute():
        raise RequestError(Fault(source, "is not of the form package:NAME/path/inside."))
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        raise RequestError(Fault(source, "the package is not installed.", f"Run: pip install --no-deps {name}"))
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not path.exists():
        raise RequestError(Fault(source, f"the installed package does not ship {inside!r}."))
    return path


def check_hashes(expected: Mapping[str, str]) -> None:
    """Compare files with the SHA-256 digests that a recipe pins.

    Args:
        expected: Digest in hexadecimal by source, for example `package:NAME/model.safetensors`.

    Raises:
        RequestError: A file differs; all of them are named.
    """
    faults = []
    for source, digest in expected.items():
        path = Path(resolve(source))
        if not path.is_file():
            faults.append(Fault(source, "the recipe pins its SHA-256, but there is no such file."))
            continue
        found = sha256(path)
        if found != digest.lower():
            fix = "Install the pinned version again, or change the recipe if you trust this file."
            faults.append(Fault(source, f"its SHA-256 is {found}, the recipe pins {digest}.", fix))
    if faults:
        raise RequestError(*faults)


def sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def shown(value: Any) -> Any:
    """Return a value as others may see it: of a path on this machine its name."""
    return Path(value).name if isinstance(value, str) and value and Path(value).exists() else value


def is_local(source: str) -> bool:
    """Say whether a resolved source is a path on this machine."""
    return Path(source).exists()


def require_model(source: str) -> None:
    """Make sure that a resolved model source can be had, before anything long starts.

    Raises:
        ModelError: A local folder that holds no model, or a Hub id that does not exist or is not ours to read.
        NetworkError: It is neither a local folder nor in the Hub's cache, and the Hub cannot be reached.
    """
    if is_local(source):
        if not (Path(source) / "config.json").is_file():
            raise ModelError(Fault(source, "is not a model folder: it has no config.json."))
        return
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelError(Fault(source, "there is no such folder."))
    _require_on_hub(source, "model", "config.json")


def require_dataset(source: str) -> None:
    """Make sure that a data set on the Hub can be had, before anything long starts.

    Raises:
        RequestError: It does not exist or is not ours to read.
        NetworkError: The Hub cannot be reached.
    """
    _require_on_hub(source, "dataset", "README.md")


def _require_on_hub(repo_id: str, kind: str, probe: str) -> None:
    """Ask the Hub once about a repository, unless its probe file is in the cache."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        if isinstance(try_to_load_from_cache(repo_id, probe, repo_type=kind), str):
            return
        HfApi().repo_info(repo_id, repo_type=kind, timeout=10)
    except (RepositoryNotFoundError, HFValidationError):
        fix = "Check the spelling; for a private one, log in with `hf auth login`."
        raise ModelError(Fault(repo_id, f"there is no such local folder, short name or Hub {kind}.", fix)) from None
    except connection_errors():
        raise unreachable(repo_id, kind) from None


def connection_errors() -> tuple[type[Exception], ...]:
    """Return what huggingface_hub raises: OSErrors (those of requests too), since 1.0 httpx's, since 2.0 httpx2's."""
    clients = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    return OSError, *(client.TransportError for client in clients)


def unreachable(source: str, kind: str) -> NetworkError:
    """Build the error for a model or data set that would have to come from the Hub."""
    return NetworkError(
        f"The Hugging Face Hub cannot be reached to get the {kind} '{source}', and it is not in the local cache. "
        "Check the connection (or unset HF_HUB_OFFLINE), or give a local folder or file instead."
    )
