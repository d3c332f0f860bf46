"""A loss that is NaN stops training and names the last checkpoint whose weights are finite."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from hfcompress.errors import NonFiniteLossError
from hfcompress.training.checkpoints import checkpoints, last_good_checkpoint
from tests.training.runs import At, build, small_student


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints, numbered so that their order as text is another."""
    for step in (90, 100, 8):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "trainer_state.json").write_text("{}")
        save_file({"weight": torch.ones(3), "number": torch.tensor(7)}, checkpoint / "model.safetensors")
    return tmp_path


def _spoil(checkpoint, value):
    file = next(checkpoint.glob("model*.safetensors"))
    tensors = load_file(file)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[-1] = value
    save_file(tensors, file, metadata={"format": "pt"})


def test_checkpoints_are_ordered_by_step_newest_first(folder):
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-100", "checkpoint-90", "checkpoint-8"]


def test_a_checkpoint_without_its_state_is_incomplete(folder):
    (folder / "checkpoint-100" / "trainer_state.json").unlink()
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-90", "checkpoint-8"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_last_good_checkpoint_is_the_newest_with_finite_weights(value, folder):
    assert last_good_checkpoint(folder).name == "checkpoint-100"
    _spoil(folder / "checkpoint-100", value)
    assert last_good_checkpoint(folder).name == "checkpoint-90"


def test_an_infinity_of_each_sign_is_not_finite(folder):
    save_file({"weight": torch.tensor([float("inf"), float("-inf")])}, folder / "checkpoint-100" / "model.safetensors")
    assert last_good_checkpoint(folder).name == "checkpoint-90"


def test_large_finite_weights_are_finite(folder):
    save_file({"weight": torch.full((4,), 3e38)}, folder / "checkpoint-100" / "model.safetensors")
    assert last_good_checkpoint(folder).name == "checkpoint-100"


def test_weights_that_are_missing_or_cut_short_are_not_good(folder):
    (folder / "checkpoint-100" / "model.safetensors").unlink()
    file = folder / "checkpoint-90" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    assert last_good_checkpoint(folder).name == "checkpoint-8"


def test_there_may_be_no_good_checkpoint(folder, tmp_path):
    for path in checkpoints(folder):
        shutil.rmtree(path)
    assert last_good_checkpoint(tmp_path) is None
    assert last_good_checkpoint(tmp_path / "absent") is None


def _diverge(student):
    """Make the next step's loss NaN."""
    return lambda _: student.classifier.bias.data.fill_(float("nan"))


def test_a_nan_loss_names_the_last_good_checkpoint(teacher, tmp_path):
    student = small_student()

    def fail(control):
        _spoil(tmp_path / "checkpoint-2", float("nan"))
        _diverge(student)(control)

    trainer = build(student, tmp_path, teacher, callbacks=[At(3, fail)], save_strategy="steps", save_steps=1)
    with pytest.raises(
        NonFiniteLossError, match=r"became nan at step 4\. The last good checkpoint is .*checkpoint-1\."
    ):
        trainer.train()
    assert (tmp_path / "checkpoint-3").is_dir()


def test_a_nan_loss_without_a_checkpoint_says_so(teacher, tmp_path):
    student = small_student()
    trainer = build(student, tmp_path, teacher, callbacks=[At(1, _diverge(student))])
    with pytest.raises(
        NonFiniteLossError, match=r"at step 2\. No checkpoint was saved before\. Lower the learning rate"
    ):
        trainer.train()
