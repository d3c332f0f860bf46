"""What is refused before anything leaves the machine: the folder, its card, its files and the names on the Hub."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hfcompress.errors import Fault, ModelError, RequestError
from hfcompress.hub.contents import find_secrets, is_pickle
from hfcompress.hub.files import Found, LocalFile, find_files
from hfcompress.modeling.load import FIX_WEIGHTS, load_config, load_model, load_processor
from hfcompress.modeling.onnx_model import ONNX_FOLDER
from hfcompress.tasks import task_of_config

# https://huggingface.co/docs/hub/storage-limits
MAX_FILE_BYTES = 50_000_000_000
MAX_FILES = 100_000
MAX_ENTRIES = 10_000

_REF = re.compile(r"(?!-)(?!.*(?:\.\.|//|@\{|\.lock$|/$|\.$))[\w.][\w./+-]*")
_CARD = "README.md"


def check_request(repo_id: str, branch: str | None = None, tag: str | None = None, create_pr: bool = False) -> None:
    """Look at the names on the Hub, without asking it.

    Raises:
        RequestError: A name cannot be one, or options exclude each other; all of them.
    """
    faults = []
    if not _is_repo_id(repo_id) or "/" not in repo_id:
        problem = f"takes NAMESPACE/NAME: letters, digits, - _ and . (at most 96 in the name), got '{repo_id}'."
        faults.append(Fault("--repo-id", problem, "For example: --repo-id me/my-model"))
    for flag, name in (("--branch", branch), ("--tag", tag)):
        if name is not None and (not _REF.fullmatch(name) or name.startswith("refs/")):
            faults.append(Fault(flag, f"is no name that git allows: '{name}'.", "Use letters, digits, - _ . and /."))
    if create_pr and branch not in (None, "main"):
        faults.append(Fault("--branch", "does not go with --create-pr: the Hub opens pull requests to main only."))
    if create_pr and tag is not None:
        faults.append(Fault("--tag", "does not go with --create-pr.", "Tag the commit once it is merged."))
    if faults:
        raise RequestError(*faults)


def check_folder(folder: Path, token: str | None = None) -> Found:
    """Look at everything in a model folder, without asking the Hub.

    Args:
        folder: The model folder.
        token: The user's token, which must be in no file.

    Returns:
        What goes to the repository, and what stays behind.

    Raises:
        RequestError: A file that must not go there, or no model card; all such faults.
        ModelError: It is no model folder, or the model does not load.
    """
    if not (folder / "config.json").is_file():
        problem = "is not a model folder: it has no config.json." if folder.is_dir() else "there is no such folder."
        raise ModelError(Fault(str(folder), problem))
    root = folder.resolve()
    found = find_files(root)
    large = list(_limit_faults(found.files))
    known = _private_texts(root, token)
    faults = [*found.faults, *large, *_card_faults(root)]
    too_large = {fault.where for fault in large}
    for file in found.files:
        if file.path not in too_large:
            faults += _content_faults(file, known)
    if faults:
        raise RequestError(*faults)
    check_loads(folder, str(folder))
    return found


def check_loads(folder: Path, shown: str) -> None:
    """Load the model as its users will; ONNX files are known by their digests alone.

    Args:
        folder: A checkpoint, or a folder with ONNX files and no weights of their own.
        shown: What a message calls it.

    Raises:
        ModelError: There are no weights, or they, the config or the tokenizer cannot be used.
    """
    weights = any(folder.glob("*.safetensors"))
    if not weights and not any((folder / ONNX_FOLDER).glob("*.onnx")) and not any(folder.glob("*.onnx")):
        raise ModelError(Fault(shown, "has no weights (model.safetensors) and no ONNX files.", FIX_WEIGHTS))
    config = load_config(str(folder))
    task = task_of_config(config, shown)
    if weights:
        load_model(str(folder), task)
    load_processor(str(folder), task)


def _limit_faults(files: list[LocalFile]) -> Iterator[Fault]:
    """Yield what the Hub's limits on size and number forbid."""
    for file in files:
        if file.size > MAX_FILE_BYTES:
            problem = f"has {file.size / 1e9:.1f} GB, and the Hub takes files of {MAX_FILE_BYTES / 1e9:.0f} GB at most."
            yield Fault(file.path, problem, "Save the model in shards: `save_pretrained(..., max_shard_size='5GB')`.")
    if len(files) > MAX_FILES:
        yield Fault("", f"the folder has {len(files):,} files, and a repository takes {MAX_FILES:,}.", "Remove some.")
    entries: Counter[str] = Counter()
    for path in {part for file in files for part in _parts(file.path)}:
        entries[path.rpartition("/")[0]] += 1
    for folder, number in sorted(entries.items()):
        if number > MAX_ENTRIES:
            problem = f"has {number:,} entries, and the Hub takes {MAX_ENTRIES:,} in one folder."
            yield Fault(folder or "the folder", problem, "Put them into several folders.")


def _parts(path: str) -> list[str]:
    """Return a path and the folders that it lies in."""
    return [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]


def _content_faults(file: LocalFile, known: dict[str, str]) -> list[Fault]:
    """Say what a file holds that must not be published."""
    try:
        if is_pickle(file.path, file.place):
            fix = "Remove it; weights go as safetensors (`save_pretrained` writes them)."
            return [Fault(file.path, "is a pickle, which can run code when it is loaded.", fix)]
        kinds = find_secrets(file.place, known)
    except OSError as error:
        return [Fault(file.path, f"cannot be read: {error.strerror}.", "Change its permissions, or remove it.")]
    fix = "Remove it from the file; a secret that was ever shown to others must be revoked."
    return [Fault(file.path, f"holds {kind}.", fix if "folder" not in kind else "Remove it.") for kind in kinds]


def _private_texts(root: Path, token: str | None) -> dict[str, str]:
    """Return what no published file says: the user's token, where this folder lies, and where home is."""
    places = {str(root): "the path of this folder", str(Path.home()): "the path of your home folder"}
    # `/root` and `/out` may well be words of a vocabulary.
    known = {place: kind for place, kind in places.items() if len(Path(place).parts) > 2}
    return {**known, token: "your own access token"} if token else known


def _card_faults(root: Path) -> Iterator[Fault]:
    """Say what is wrong with the model card: absent, unreadable, or naming a base model that only this machine has."""
    import yaml
    from huggingface_hub import metadata_load

    card = root / _CARD
    if not card.is_file():
        yield Fault(_CARD, "is missing: a model goes to the Hub with its card.", "Write it: `hfcompress card DIR`.")
        return
    try:
        data: dict[str, Any] = metadata_load(card) or {}
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        yield Fault(_CARD, f"its metadata cannot be read: {reason}.", "Write it anew: `hfcompress card DIR`.")
        return
    given = data.get("base_model")
    for base in given if isinstance(given, list) else [given]:
        if base is not None and not _could_be_on_the_hub(base):
            problem = f"its base_model is '{base}', which is a place on this machine and no repository of the Hub."
            yield Fault(_CARD, problem, "Name the Hub id that it comes from (such as google-bert/bert-base-uncased).")


def _could_be_on_the_hub(base: Any) -> bool:
    return _is_repo_id(base) and not Path(base).is_dir()


def _is_repo_id(name: Any) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
