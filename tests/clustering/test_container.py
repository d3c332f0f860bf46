"""The container: whole folders come back byte for byte; damaged, cut, newer and foreign files are refused."""

import json
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification

from hfcompress.clustering.container import frames, pack, unpack
from hfcompress.clustering.container.frames import EXPANSION, MAGIC, FrameWriter
from hfcompress.errors import HfcompressError, ModelError, OutputExistsError, RequestError
from tests.cli.support import tree
from tests.tiny import tiny_model, tiny_tokenizer

NAN = torch.tensor([0x7FC00001, 0x7F800001, -(2**31), 0, -1], dtype=torch.int32).view(torch.float32)
HOSTILE = {
    "empty": torch.zeros(0, 4),
    "zero-dimensional": torch.tensor(3.5),
    "constant": torch.full((300, 20), 0.25),
    "nan": NAN.repeat(50),
    "bfloat16": torch.randn(40, 30, dtype=torch.bfloat16),
    "float16": torch.randn(40, 30).half(),
    "float64": torch.randn(7, 3, dtype=torch.float64),
    "int64": torch.arange(512)[None],
    "uint8": torch.randint(0, 255, (30, 30), dtype=torch.uint8),
    "bool": torch.rand(50) > 0.5,
    "float8": torch.randn(64, 8).to(torch.float8_e4m3fn),
    "few": torch.randn(16)[torch.randint(0, 16, (200, 64))],
    "sparse": torch.randn(4)[torch.randint(0, 4, (200, 64))] * (torch.rand(200, 64) > 0.9),
    "not contiguous": torch.randn(20, 30).T.contiguous(),
}


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A folder with a tiny model, a tokenizer, and files of all kinds, one of which is too large for a bundle."""
    monkeypatch.setattr("hfcompress.clustering.container.packing._SMALL", 2**16)
    folder = tmp_path / "model"
    tiny_model("bert", layers=1).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    save_file(HOSTILE, folder / "hostile.safetensors", metadata={"format": "pt", "ä": "ö"})
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(os.urandom(2**17))
    (folder / "empty.txt").write_bytes(b"")
    return folder


@pytest.fixture
def packed(checkpoint, tmp_path):
    """Without the large file."""
    (checkpoint / "onnx" / "model.onnx").unlink()
    (checkpoint / "onnx").rmdir()
    pack(checkpoint, tmp_path / "model.hfz")
    return tmp_path / "model.hfz"


def test_every_file_comes_back(checkpoint, tmp_path):
    report = pack(checkpoint, tmp_path / "model.hfz")
    before = tree(checkpoint)
    again = unpack(tmp_path / "model.hfz", tmp_path / "again")
    assert tree(tmp_path / "again") == before
    assert again.files == report.files
    assert report.bytes == (tmp_path / "model.hfz").stat().st_size
    assert report.unpacked_bytes == again.bytes == sum(len(data) for data in before.values() if data)
    assert set(HOSTILE) <= set(report.tensors)
    assert {report.tensors[name]["coding"] for name in ("few", "sparse")} == {"codebook"}
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "again").num_parameters()


def test_pieces_of_any_size_come_back(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("hfcompress.clustering.container.packing.PIECE", 5000)
    pack(checkpoint, tmp_path / "model.hfz")
    unpack(tmp_path / "model.hfz", tmp_path / "again")
    assert tree(tmp_path / "again") == tree(checkpoint)


def test_the_same_folder_gives_the_same_file(packed, checkpoint, tmp_path):
    pack(checkpoint, tmp_path / "again.hfz")
    assert (tmp_path / "again.hfz").read_bytes() == packed.read_bytes()


def test_a_file_inside_the_folder_is_not_packed_into_itself(packed, checkpoint):
    names = set(tree(checkpoint))
    for _ in range(2):
        report = pack(checkpoint, checkpoint / "model.hfz", overwrite=True)
        assert set(report.files) == names


def test_tied_weights_are_in_the_file_once(tmp_path):
    from transformers import AutoModelForMaskedLM

    from tests.tiny import tiny_head

    model = tiny_head("bert", "ForMaskedLM")
    model.save_pretrained(tmp_path / "model")
    pack(tmp_path / "model", tmp_path / "model.hfz")
    unpack(tmp_path / "model.hfz", tmp_path / "again")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "again")
    assert again.get_input_embeddings().weight is again.get_output_embeddings().weight
    assert torch.equal(again.get_input_embeddings().weight, model.get_input_embeddings().weight)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(data=st.data())
def test_any_safetensors_file_comes_back(data, tmp_path_factory):
    place = tmp_path_factory.mktemp("any")
    folder = place / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    shapes = data.draw(st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=4))
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    kinds = [np.float32, np.float16, np.int64, np.uint8]
    tensors = {
        f"tensor {index}": torch.from_numpy(
            generator.integers(0, data.draw(st.sampled_from([1, 2, 250])), shape).astype(kinds[index % 4])
        )
        for index, shape in enumerate(shapes)
    }
    save_file(tensors, folder / "model.safetensors")
    pack(folder, place / "model.hfz")
    unpack(place / "model.hfz", place / "again")
    assert tree(place / "again") == tree(folder)


# What is refused before anything is written.


def test_links_pickles_and_broken_files_are_refused_together(checkpoint, tmp_path):
    (checkpoint / "link.txt").symlink_to(checkpoint / "nowhere")
    (checkpoint / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError) as caught:
        pack(checkpoint, tmp_path / "model.hfz")
    assert [fault.where for fault in caught.value.faults] == ["link.txt", "pytorch_model.bin"]
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_files_behind_links_are_packed_and_the_trainers_options_left_out(checkpoint, tmp_path):
    """The first is how the Hub's cache is laid out, the second what `Trainer.save_model` leaves."""
    blob, told = tmp_path / "blob", []
    (checkpoint / "model.safetensors").rename(blob)
    (checkpoint / "model.safetensors").symlink_to(blob)
    (checkpoint / "training_args.bin").write_bytes(b"pickle")
    pack(checkpoint, tmp_path / "model.hfz", say=told.append)
    assert told[0].startswith("left out: training_args.bin, ")
    unpack(tmp_path / "model.hfz", tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == blob.read_bytes()
    assert not (tmp_path / "again" / "model.safetensors").is_symlink()
    (checkpoint / "training_args.bin").unlink()
    assert {one.name for one in (tmp_path / "again").iterdir()} == {one.name for one in checkpoint.iterdir()}


@pytest.mark.parametrize("change", ["cut", "longer", "header", "empty"])
def test_broken_safetensors_files_are_refused(change, checkpoint, tmp_path):
    file = checkpoint / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(
        {"cut": data[:-1], "longer": data + b"0", "header": data[:8] + b"x" + data[9:], "empty": b""}[change]
    )
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        pack(checkpoint, tmp_path / "model.hfz")
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_places_that_are_taken_or_wrong_are_refused(packed, checkpoint, tmp_path):
    before = packed.read_bytes()
    with pytest.raises(OutputExistsError, match="--overwrite"):
        pack(checkpoint, packed)
    assert packed.read_bytes() == before
    with pytest.raises(RequestError, match=r"does not end in \.hfz"):
        pack(checkpoint, tmp_path / "model.zip")
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        pack(tmp_path, tmp_path / "other.hfz")
    (tmp_path / "loop").symlink_to("loop")
    for parent in (tmp_path / "loop", checkpoint / "config.json"):
        with pytest.raises(OutputExistsError, match="is not a folder that can be written to"):
            pack(checkpoint, parent / "other.hfz")
    with pytest.raises(OutputExistsError, match="exists already"):
        unpack(packed, checkpoint)
    with pytest.raises(ModelError, match="is not there"):
        unpack(tmp_path / "nothing.hfz", tmp_path / "again")


def test_an_old_folder_survives_a_damaged_file(packed, tmp_path):
    unpack(packed, tmp_path / "again")
    before = tree(tmp_path / "again")
    packed.write_bytes(packed.read_bytes()[:-1])
    with pytest.raises(ModelError):
        unpack(packed, tmp_path / "again", overwrite=True)
    assert tree(tmp_path / "again") == before


# Damaged files.


def refused(data, tmp_path):
    """Unpack bytes; return what was said, after a look at what was left behind."""
    file, folder = tmp_path / "damaged.hfz", tmp_path / "out"
    file.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        unpack(file, folder)
    assert not folder.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    return str(caught.value)


def test_foreign_newer_and_empty_files_are_refused(packed, tmp_path):
    data = packed.read_bytes()
    for foreign in (b"", b"PK\x03\x04", data[1:], data.replace(b"\r\n", b"\n", 1)):
        assert "is not a .hfz file" in refused(foreign, tmp_path)
    newer = MAGIC + struct.pack("<I", 2) + data[12:]
    assert "is of version 2 of the format, and this hfcompress reads up to 1" in refused(newer, tmp_path)


def test_every_cut_is_found(packed, tmp_path):
    data = packed.read_bytes()
    for length in {*range(12, 400, 31), *range(len(data) - 150, len(data), 29), *range(400, len(data), len(data) // 9)}:
        assert "is damaged at" in refused(data[:length], tmp_path)
    assert "is damaged at" in refused(data + b"0", tmp_path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_is_found(place, bit, packed, tmp_path):
    data = bytearray(packed.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    refused(bytes(data), tmp_path)


def test_the_damaged_tensor_is_named(packed, tmp_path):
    data = bytearray(packed.read_bytes())
    data[data.index(b'"of":"constant"') + 45] ^= 1
    said = refused(bytes(data), tmp_path)
    assert re.search(r"is damaged at what follows [\w ]+ of hostile\.safetensors: its checksum is another one", said)


# Files that are whole and lie: every checksum is right.


class Lying(FrameWriter):
    """Writes frames as they are told."""

    def lie(self, data=b"", text=None, **fields):
        text = json.dumps(fields).encode() if text is None else text
        head = struct.pack("<IQI", len(text), len(data), zlib.crc32(data, zlib.crc32(text)))
        self._put(head + text + data)


def lying(path, *told, files=1, size=10):
    with Path(path).open("wb") as file:
        writer = Lying(file)
        writer.lie(kind="begin", files=files, bytes=size)
        for fields in told:
            writer.lie(**fields)
        writer.end()
    return Path(path).read_bytes()


RAW = b"\1" + b"0123456789"
BUNDLE = {"kind": "bundle", "names": ["a"], "sizes": [10], "bytes": 10, "coding": "planes", "data": RAW}


def test_what_a_liar_would_write_can_be_honest(tmp_path):
    lying(tmp_path / "honest.hfz", BUNDLE)
    unpack(tmp_path / "honest.hfz", tmp_path / "out")
    assert tree(tmp_path / "out") == {"a": b"0123456789"}


@pytest.mark.parametrize(
    "name",
    ["../a", "/a", "a/../../b", "", ".", "a//b", "C:\\a", "a\\b", "a\0", "a\n", 5, None, ["a"], "x" * 300]
    + ["a/" * 2000 + "b", "CON", "aux.txt", "a/lpt1", "a ", "a."],
)
def test_names_that_lead_elsewhere_are_refused(name, tmp_path):
    assert "a file cannot be called" in refused(lying(tmp_path / "x.hfz", BUNDLE | {"names": [name]}), tmp_path)
    file = {"kind": "file", "name": name, "size": 10, "bytes": 0}
    refused(lying(tmp_path / "x.hfz", file), tmp_path)


@pytest.mark.parametrize(
    "told",
    [
        [BUNDLE, BUNDLE],
        [BUNDLE | {"sizes": [11]}],
        [BUNDLE | {"sizes": [-1]}],
        [BUNDLE | {"sizes": [True]}],
        [BUNDLE | {"sizes": []}],
        [BUNDLE | {"sizes": None}],
        [BUNDLE | {"bytes": 2**40}],
        [BUNDLE | {"bytes": "10"}],
        [BUNDLE | {"coding": "zip"}],
        [BUNDLE | {"coding": None}],
        [BUNDLE | {"kind": "piece"}],
        [BUNDLE | {"kind": "begin"}],
        [{"text": b"[1]"}],
        [{"text": b"{"}],
        [{"text": b"[" * 100_000}],
        [],
    ],
)
def test_lies_are_found(told, tmp_path):
    refused(lying(tmp_path / "x.hfz", *told), tmp_path)


@pytest.mark.parametrize("piece", [{"word": 3}, {"word": 0}, {"word": None}, {"of": 5}, {"bytes": 12}, {"bytes": -1}])
def test_lies_about_pieces_are_found(piece, tmp_path):
    file = {"kind": "file", "name": "a", "size": 10, "bytes": 0}
    whole = {"kind": "piece", "of": "a", "word": 1, "bytes": 10, "coding": "planes", "data": RAW}
    close = {"kind": "close", "bytes": 0, "digest": "0"}
    assert "is damaged at" in refused(lying(tmp_path / "x.hfz", file, whole | piece, close), tmp_path)
    assert "the file that comes out is not the one" in refused(lying(tmp_path / "x.hfz", file, whole, close), tmp_path)


def test_more_than_may_come_out_is_refused_unread(tmp_path, monkeypatch):
    constant = b"\0\0\0"
    huge = {"kind": "bundle", "names": ["a"], "sizes": [2**24], "bytes": 2**24, "coding": "planes", "data": constant}
    monkeypatch.setattr("hfcompress.clustering.container.unpacking.read_values", None)
    said = refused(lying(tmp_path / "x.hfz", huge, size=2**18), tmp_path)
    assert "more comes out of it than may" in said
    assert "is damaged at the beginning" in refused(lying(tmp_path / "x.hfz", size=2**40), tmp_path)


def test_constants_are_padded_so_that_they_are_let_through(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"zeros": torch.zeros(2000, 2500)}, folder / "model.safetensors")
    report = pack(folder, tmp_path / "model.hfz")
    assert report.unpacked_bytes / EXPANSION < report.bytes < 8000
    unpack(tmp_path / "model.hfz", tmp_path / "again")
    assert tree(tmp_path / "again") == tree(folder)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_frames_of_garbage_are_refused(data, tmp_path):
    value = (
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(0, 9) | st.text(max_size=3), max_size=3)
    )
    keys = st.sampled_from(["bytes", "names", "sizes", "coding", "name", "size", "of", "word", "digest"])
    kinds = st.sampled_from(["begin", "bundle", "file", "piece", "close", "end", "other"])
    told = [
        {**data.draw(st.dictionaries(keys, value)), "kind": data.draw(kinds), "data": data.draw(st.binary(max_size=50))}
        for _ in range(data.draw(st.integers(0, 4)))
    ]
    file = tmp_path / "x.hfz"
    lying(file, *told, files=len(told))
    with pytest.raises(HfcompressError):
        unpack(file, tmp_path / "out")


def test_a_frame_tells_its_own_size_and_no_more_is_read(tmp_path, monkeypatch):
    head = struct.pack("<IQI", 2, 2**63, 0)
    data = MAGIC + struct.pack("<I", frames.VERSION) + head + b"{}"
    assert "announces more than a frame may have" in refused(data, tmp_path)
