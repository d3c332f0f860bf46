"""Sources: what a typed name stands for, files of installed packages, pinned hashes, and a Hub out of reach."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy
import pytest
import requests
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.errors import ModelError, NetworkError, RequestError
from hfcompress.sources import SHORT_NAMES, check_hashes, is_local, package_path, require_model, resolve, sha256


@pytest.mark.parametrize(
    ("typed", "source"),
    [
        ("bert-base", "google-bert/bert-base-uncased"),
        ("distilbert", "distilbert/distilbert-base-uncased"),
        ("someone/model", "someone/model"),
        ("bert-bsae", "bert-bsae"),
    ],
)
def test_short_names_stand_for_hub_ids_and_others_for_themselves(typed, source):
    assert resolve(typed) == source


def test_every_short_name_stands_for_an_owner_and_a_name():
    assert all(re.fullmatch(r"[\w-]+/[\w.-]+", source) for source in SHORT_NAMES.values())
    assert not set(SHORT_NAMES) & set(SHORT_NAMES.values())


def test_a_folder_that_exists_wins_over_a_short_name(tmp_path, monkeypatch):
    (tmp_path / "bert-base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("bert-base") == "bert-base"
    assert is_local(resolve("bert-base"))
    assert not is_local(resolve("bert-large"))


def test_packages_give_their_files_without_being_imported(tmp_path, monkeypatch):
    package = tmp_path / "shipped_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert resolve("package:shipped_model/config.json") == str(package / "config.json")
    assert package_path("package:shipped_model").resolve() == package
    assert resolve("package:numpy/linalg") == str(Path(numpy.__file__).parent / "linalg")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "package:no_such_package_here/x",
            "the package is not installed. Run: pip install --no-deps no-such-package-here",
        ),
        ("package:numpy/no/such/file", "the installed package does not ship 'no/such/file'."),
        ("package:numpy/../torch", "is not of the form package:NAME/path/inside."),
        ("package:numpy/linalg/../../torch", "is not of the form package:NAME/path/inside."),
        ("package:numpy//etc/passwd", "is not of the form package:NAME/path/inside."),
        ("package:../numpy/x", "is not of the form package:NAME/path/inside."),
        ("package:numpy.linalg/x", "is not of the form package:NAME/path/inside."),
        ("package:", "is not of the form package:NAME/path/inside."),
    ],
)
def test_a_package_path_that_is_not_there_or_leaves_the_package_is_refused(source, says):
    with pytest.raises(RequestError) as error:
        resolve(source)
    assert str(error.value) == f"{source}: {says}"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "", "/", "linalg", "etc", "~"]), max_size=6).map("/".join))
def test_no_path_leads_out_of_its_package(inside):
    try:
        path = package_path(f"package:numpy/{inside}")
    except RequestError:
        return
    assert path.resolve().is_relative_to(Path(numpy.__file__).parent.resolve())


def test_pinned_hashes_are_compared_and_every_difference_named(tmp_path):
    files = {name: tmp_path / name for name in ("same", "other", "changed")}
    for name, path in files.items():
        path.write_bytes(name.encode())
    pinned = {str(path): hashlib.sha256(name.encode()).hexdigest() for name, path in files.items()}
    check_hashes(pinned)
    check_hashes({place: digest.upper() for place, digest in pinned.items()})
    files["changed"].write_bytes(b"tampered")
    files["other"].unlink()
    with pytest.raises(RequestError) as error:
        check_hashes(pinned)
    assert [fault.where for fault in error.value.faults] == [str(files["other"]), str(files["changed"])]
    assert hashlib.sha256(b"tampered").hexdigest() in str(error.value)
    assert pinned[str(files["changed"])] in str(error.value)


def test_a_hash_is_of_the_whole_file(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(b"a" * 3_000_001)
    assert sha256(path) == hashlib.sha256(b"a" * 3_000_001).hexdigest()
    path.write_bytes(b"")
    assert sha256(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_local_model_needs_a_config(tmp_path):
    with pytest.raises(ModelError, match=r"is not a model folder: it has no config\.json\."):
        require_model(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({}))
    require_model(str(tmp_path))


@pytest.mark.parametrize("source", ["./model", "/no/model", "~/model", "out/runs/model"])
def test_a_path_that_does_not_exist_is_not_asked_of_the_hub(source):
    with pytest.raises(ModelError, match=r"there is no such folder\.$"):
        require_model(source)


@pytest.mark.parametrize("source", ["bert base", "a--b", "name!"])
def test_a_name_that_the_hub_cannot_have_is_refused(source):
    with pytest.raises(ModelError, match="there is no such local folder, short name or Hub model. Check the spelling"):
        require_model(source)


def transport_errors():
    """What the installed huggingface_hub, and others, raise without a network."""
    found = [requests.ConnectionError("refused"), requests.Timeout("slow"), OfflineModeIsEnabled("offline")]
    for name in ("httpx", "httpx2"):
        client = sys.modules.get(name)
        if client is not None:
            found += [client.ConnectError("refused"), client.ReadTimeout("slow")]
    return found


def http_error(kind, status):
    """An error of the Hub, built without its constructor, which differs between versions."""
    error = kind.__new__(kind)
    Exception.__init__(error, f"{status}")
    return error


@pytest.mark.parametrize(
    "error", [*transport_errors(), http_error(HfHubHTTPError, 503)], ids=lambda e: type(e).__name__
)
def test_without_a_network_one_sentence_says_so(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", fail)
    with pytest.raises(NetworkError) as said:
        require_model("someone/model")
    assert str(said.value) == (
        "The Hugging Face Hub cannot be reached to get the model 'someone/model', and it is not in the local cache. "
        "Check the connection (or unset HF_HUB_OFFLINE), or give a local folder or file instead."
    )
    assert said.value.__suppress_context__


def test_a_model_that_the_hub_does_not_have_is_refused(monkeypatch):
    def fail(*args, **kwargs):
        raise http_error(RepositoryNotFoundError, 404)

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", fail)
    with pytest.raises(ModelError, match="^someone/model: there is no such local folder, short name or Hub model"):
        require_model("someone/model")


def test_a_model_in_the_cache_needs_no_network(monkeypatch):
    asked = []
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *args, **kwargs: asked.append(args))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args, **kwargs: "/cache/config.json")
    require_model("someone/model")
    assert asked == []


PROBE = """
import time
from hfcompress.errors import NetworkError
from hfcompress.sources import require_model

started = time.monotonic()
try:
    require_model("someone/model")
except NetworkError:
    print(time.monotonic() - started)
"""


def test_offline_a_fresh_process_says_so_within_seconds():
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, env=env, timeout=60, check=True
    )
    assert float(done.stdout) < 10
