"""CompressionArguments: losses in every way they can be written, checked at once, and stored without loss."""

import json

import pytest
from transformers import HfArgumentParser, TrainingArguments

from hfcompress import CompressionArguments, RequestError

QUIET = {"output_dir": "out", "report_to": "none", "use_cpu": True}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ('{"kl": 1}', {"kl": {"weight": 1}}),
        (' {"kl": {"temperature": 4}, "task": 0.3}', {"kl": {"temperature": 4}, "task": {"weight": 0.3}}),
        ("kl,task", {"kl": {}, "task": {}}),
        ("hidden-mse, reverse-kl", {"hidden_mse": {}, "reverse_kl": {}}),
        ({"kl": 0.5, "hidden_mse": {"weight": 0.1}}, {"kl": {"weight": 0.5}, "hidden_mse": {"weight": 0.1}}),
        (None, {"kl": {"weight": 0.7, "temperature": 2.0}, "task": {"weight": 0.3}}),
    ],
)
def test_losses_are_read_however_they_are_written(given, read):
    assert CompressionArguments(**QUIET, losses=given).losses == read


def test_the_command_line_takes_json_and_names():
    parser = HfArgumentParser(CompressionArguments)
    command = ["--output_dir", "out", "--report_to", "none", "--use_cpu", "--layer_map", "skip"]
    (by_json,) = parser.parse_args_into_dataclasses([*command, "--losses", '{"kl": 1}', "--length_grouping"])
    (by_name,) = parser.parse_args_into_dataclasses([*command, "--losses", "jsd"])
    assert (by_json.losses, by_json.layer_map, by_json.length_grouping) == ({"kl": {"weight": 1}}, "skip", True)
    assert (by_name.losses, by_name.length_grouping) == ({"jsd": {}}, False)


def test_every_field_of_its_own_carries_help():
    names = {
        field
        for field in CompressionArguments.__dataclass_fields__
        if field not in TrainingArguments.__dataclass_fields__
    }
    assert names == {"losses", "layer_map", "length_grouping"}
    assert all(CompressionArguments.__dataclass_fields__[name].metadata["help"] for name in names)


def test_all_faults_in_the_losses_are_told_at_once():
    losses = {"kll": 1, "jsd": {"beta": 2, "temprature": 3}, "kl": {"temperature": 0}, "hidden_mse": -1}
    with pytest.raises(RequestError) as caught:
        CompressionArguments(**QUIET, losses=losses)
    text = str(caught.value)
    assert len(caught.value.faults) == 5
    for part in (
        "Did you mean 'kl'?",
        "losses.jsd.beta",
        "Did you mean 'temperature'?",
        "losses.kl.temperature",
        "losses.hidden_mse",
    ):
        assert part in text


@pytest.mark.parametrize("losses", ['{"kl": 1', "[1, 2", 3, {"kl": 0, "task": 0}, ","])
def test_what_is_no_loss_to_train_on_is_refused(losses):
    with pytest.raises(RequestError):
        CompressionArguments(**QUIET, losses=losses)


@pytest.mark.parametrize("losses", [None, '{"kl": {"temperature": 4}, "task": 0.3}', "hidden_mse,kl"])
def test_arguments_survive_being_stored(losses):
    args = CompressionArguments(**QUIET, losses=losses, layer_map="1:2,2:4", length_grouping=True, learning_rate=3e-4)
    stored = json.loads(args.to_json_string())
    assert stored == json.loads(json.dumps(args.to_dict()))
    again = CompressionArguments(
        **{name: stored[name] for name in ("output_dir", "losses", "layer_map", "length_grouping")}
    )
    assert (again.losses, again.layer_map, again.length_grouping) == (args.losses, "1:2,2:4", True)
    assert stored["learning_rate"] == 3e-4


def test_the_callers_losses_are_left_alone():
    losses = {"kl": {"weight": 0.5}, "task": 0.3}
    args = CompressionArguments(**QUIET, losses=losses)
    args.losses["kl"]["weight"] = 9
    assert losses == {"kl": {"weight": 0.5}, "task": 0.3}


def test_the_default_losses_are_not_shared():
    first = CompressionArguments(**QUIET)
    first.losses["kl"]["temperature"] = 9
    assert CompressionArguments(**QUIET).losses["kl"]["temperature"] == 2.0
