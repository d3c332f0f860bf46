"""Whether the Hub holds what was pushed: digests file by file, and a model that loads from there."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import ModelError, PushError
from hfcompress.folders import require_space
from hfcompress.hub.checks import check_loads
from hfcompress.hub.files import LocalFile
from hfcompress.hub.talking import Say, patiently
from hfcompress.naming import first_few

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# What no PyTorch checkpoint needs; some of it may be from others, and large.
_NOT_LOADED = ("onnx/*", "figures/*", "report.html", "*.bin", "*.pt", "*.h5", "*.msgpack", "*.gguf")


def remote_files(api: HfApi, repo_id: str, revision: str) -> dict[str, Any]:
    """Return what the Hub tells of every file at a revision, by name."""
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repo_id, recursive=True, revision=revision)
    return {item.path: item for item in tree if isinstance(item, RepoFile)}


def differing(files: Sequence[LocalFile], remote: dict[str, Any]) -> list[str]:
    """Return the names of the files that the Hub lacks, or holds with other bytes."""
    return [file.path for file in files if not _is_same(file, remote.get(file.path))]


def _is_same(file: LocalFile, there: Any) -> bool:
    if there is None or there.size != file.size:
        return False
    return there.lfs.sha256 == file.sha256 if there.lfs else there.blob_id == file.git_hash


def require_room(files: Sequence[LocalFile]) -> None:
    """Make sure that the model can be fetched again, to be tried.

    Raises:
        DiskSpaceError: The folder for temporary files lacks room.
    """
    needed = sum(file.size for file in files if not file.path.startswith(("onnx/", "figures/")))
    require_space(Path(tempfile.gettempdir()), needed)


def verify(api: HfApi, repo_id: str, commit: str, files: Sequence[LocalFile], say: Say) -> dict[str, Any]:
    """Compare a commit with the local files, then load the model from it.

    Args:
        api: The client.
        repo_id: The repository.
        commit: The commit's hash.
        files: What was pushed.
        say: Where waiting is told.

    Returns:
        What the Hub tells of every file there, by name.

    Raises:
        PushError: A file has other bytes there, or the model does not load from there.
        NetworkError: The Hub cannot be reached.
    """
    state = f"The files are on the Hub (commit {commit[:10]}), but were not checked."
    remote = patiently(lambda: remote_files(api, repo_id, commit), say, state)
    wrong = differing(files, remote)
    if wrong:
        raise PushError(
            f"The Hub does not hold what was sent (commit {commit[:10]}): {first_few(wrong, 5)}. Run the same command "
            "again; if that does not help, look for a .gitignore in the repository, or for a program that changes "
            "files in the folder."
        )
    with tempfile.TemporaryDirectory(prefix="hfcompress-push-", ignore_cleanup_errors=True) as place:
        patiently(lambda: _fetch(api, repo_id, commit, Path(place)), say, state)
        _require_loads(Path(place), remote, repo_id, commit)
    return remote


def _fetch(api: HfApi, repo_id: str, commit: str, place: Path) -> None:
    """Download the checkpoint at one commit."""
    api.snapshot_download(repo_id, revision=commit, local_dir=place, ignore_patterns=list(_NOT_LOADED))


def _require_loads(place: Path, remote: dict[str, Any], repo_id: str, commit: str) -> None:
    """Load what was downloaded; ONNX files, which were compared by digest, are not there."""
    onnx = [path for path in remote if path.endswith(".onnx")]
    if onnx:
        (place / onnx[0]).parent.mkdir(parents=True, exist_ok=True)
        (place / onnx[0]).touch()
    try:
        check_loads(place, repo_id)
    except ModelError as error:
        problem = error.faults[0].problem.replace(str(place), repo_id)
        raise PushError(
            f"The files are on the Hub as they were sent (commit {commit[:10]}), but {repo_id} does not load from "
            f"there: {problem} Files of an earlier push that are still there may be why; remove them on the Hub."
        ) from error
