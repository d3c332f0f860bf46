"""All ways to write losses, and every fault in them."""

import pytest

from hfcompress import registry
from hfcompress.errors import RequestError
from hfcompress.training.objective import DEFAULT_LOSSES, parse_losses, read_losses


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ("kl", {"kl": {}}),
        ("kl,task", {"kl": {}, "task": {}}),
        (" kl , hidden-mse, ", {"kl": {}, "hidden_mse": {}}),
        ({"kl": 0.7, "task": 0.3}, {"kl": {"weight": 0.7}, "task": {"weight": 0.3}}),
        ({"hidden-mse": {"weight": 2}}, {"hidden_mse": {"weight": 2}}),
        ({"kl": {"temperature": 4}, "task": 1}, {"kl": {"temperature": 4}, "task": {"weight": 1}}),
        ('{"kl": {"temperature": 4}, "task": 1}', {"kl": {"temperature": 4}, "task": {"weight": 1}}),
        ("kl,task,kl", {"kl": {}, "task": {}}),
    ],
)
def test_reads_every_spelling(losses, expected):
    assert read_losses(losses) == expected


@pytest.mark.parametrize("losses", ["", " , ", {}, "{}", None, 5, ["kl"]])
def test_refuses_what_is_no_list_of_losses_and_shows_one(losses):
    with pytest.raises(RequestError, match=r"losses: takes names or a mapping .* Write for example kl,hidden_mse"):
        parse_losses(losses)


def test_refuses_broken_json():
    with pytest.raises(RequestError, match="losses: is not valid JSON"):
        parse_losses('{"kl": 0.7')


def test_what_is_not_written_has_its_default():
    configs = parse_losses({"kl": 0.5, "jsd": {}, "task": {"weight": 2}})
    assert (configs["kl"].weight, configs["kl"].temperature) == (0.5, 2.0)
    assert (configs["jsd"].weight, configs["jsd"].beta) == (1.0, 0.5)
    assert configs["task"].weight == 2.0


def test_the_default_losses_are_valid():
    assert {name: config.weight for name, config in parse_losses(DEFAULT_LOSSES).items()} == {"kl": 0.7, "task": 0.3}


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"kl": {"temperature": 0}}, "losses.kl.temperature: input should be greater than 0, got 0"),
        ({"kl": {"temperature": -2.0}}, "losses.kl.temperature: input should be greater than 0, got -2.0"),
        ({"kl": {"temperature": float("inf")}}, "losses.kl.temperature: input should be a finite number"),
        ({"jsd": {"beta": 1.5}}, "losses.jsd.beta: input should be less than or equal to 1, got 1.5"),
        ({"jsd": {"beta": -0.1}}, "losses.jsd.beta: input should be greater than or equal to 0, got -0.1"),
        ({"kl": -1}, "losses.kl.weight: input should be greater than or equal to 0, got -1"),
        ({"kl": float("nan")}, "losses.kl.weight: input should be a finite number, got nan"),
        ({"task": "much"}, "losses.task.weight: input should be a valid number"),
        ({"task": None}, "losses.task.weight: input should be a valid number"),
        ({"kl": {"tempertaure": 3}}, "losses.kl.tempertaure: there is no such key. Did you mean 'temperature'?"),
        ({"task": {"temperature": 3}}, "losses.task.temperature: there is no such key. Allowed: weight."),
        ("hiden_mse", "losses: there is no loss 'hiden_mse'. Did you mean 'hidden_mse'? Allowed: "),
        ({1: 2}, "losses: there is no loss '1'. Allowed: "),
        ({"kl": 0, "task": 0.0}, "losses: every weight is 0: there is nothing to train on"),
    ],
)
def test_names_the_fault(losses, message):
    with pytest.raises(RequestError) as error:
        parse_losses(losses)
    assert str(error.value).startswith(message)


def test_names_all_faults_at_once():
    with pytest.raises(RequestError) as error:
        parse_losses({"kl": {"temperature": 0, "heat": 3}, "klx": 1, "jsd": {"beta": 2, "weight": -1}})
    places = sorted(fault.where for fault in error.value.faults)
    assert places == ["losses", "losses.jsd.beta", "losses.jsd.weight", "losses.kl.heat", "losses.kl.temperature"]


@pytest.mark.parametrize("name", registry.methods("loss"))
def test_every_loss_has_a_weight_of_one_unless_told(name):
    assert parse_losses(name)[name].weight == 1.0
