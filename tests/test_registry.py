"""The registry: one list of methods, each with help, no name taken twice, and near misses named."""

import dataclasses

import pytest

from hfcompress import registry
from hfcompress.config import json_schema, option
from hfcompress.errors import RequestError
from hfcompress.registry import FAMILIES, find, methods, register, steps

ALL = [method for family in FAMILIES for method in methods(family).values()]


@dataclasses.dataclass
class Config:
    """Options of a method that only this test has."""

    strength: float = option(1.0, help="how strong")


@pytest.fixture
def own_list(monkeypatch):
    """Methods registered by a test are forgotten after it."""
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))


def test_a_registered_method_is_found_with_its_config_and_its_help(own_list):
    @register("loss", "made_up", Config)
    class MadeUp:
        """Do nothing, slowly.

        More about it.
        """

    found = find("loss", "made_up")
    assert (found.family, found.name, found.config, found.target) == ("loss", "made_up", Config, MadeUp)
    assert found.help == "Do nothing, slowly."
    assert "made_up" not in methods("layer_map")


def test_a_name_cannot_be_taken_twice(own_list):
    register("loss", "made_up", Config)(int)
    with pytest.raises(ValueError, match="loss 'made_up' is taken by <class 'int'>; choose another name"):
        register("loss", "made_up", Config)(float)
    assert find("loss", "made_up").target is int


def test_registering_the_same_thing_again_changes_nothing(own_list):
    before = list(methods("loss"))
    kl = find("loss", "kl")
    register("loss", "kl", kl.config)(kl.target)
    assert list(methods("loss")) == before


def test_one_name_can_stand_in_two_families(own_list):
    register("layer_map", "kl", Config)(int)
    assert find("layer_map", "kl").target is int
    assert find("loss", "kl").target is not int


def test_a_family_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="there is no family 'losses'; allowed: loss, layer_map, "):
        register("losses", "made_up", Config)


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_are_sorted_and_belong_to_their_family(family):
    found = methods(family)
    assert list(found) == sorted(found)
    assert all(method.family == family and method.name == name for name, method in found.items())


def test_the_first_methods_are_all_there():
    assert {"hidden_cosine", "hidden_mse", "jsd", "kl", "logit_mse", "reverse_kl"} <= set(methods("loss"))
    assert {"last", "skip", "uniform"} <= set(methods("layer_map"))


@pytest.mark.parametrize(
    ("name", "says"),
    [("kll", "there is no loss 'kll'. Did you mean 'kl'? Allowed: "), ("hidden-mse", "Did you mean 'hidden_mse'?")],
)
def test_a_mistyped_method_is_refused_with_the_nearest(name, says):
    with pytest.raises(RequestError) as error:
        find("loss", name, "losses")
    assert str(error.value).startswith("losses: ")
    assert says in str(error.value)


def test_a_family_is_called_by_its_words():
    with pytest.raises(RequestError, match="there is no layer map 'uniforn'"):
        find("layer_map", "uniforn")


def test_steps_are_the_methods_that_recipes_can_take():
    assert set(steps()) == {m.name for m in ALL if FAMILIES[m.family].is_step}
    assert "kl" not in steps()


def test_no_two_steps_share_a_name():
    names = [method.name for method in ALL if FAMILIES[method.family].is_step]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("method", ALL, ids=lambda method: f"{method.family}-{method.name}")
def test_every_method_has_help_and_so_has_every_option(method):
    assert method.help.endswith((".", ":", "…"))
    assert len(method.help) <= 120
    assert dataclasses.is_dataclass(method.config)
    unexplained = [field.name for field in dataclasses.fields(method.config) if not field.metadata.get("help")]
    assert not unexplained
    schema = json_schema(method.config)
    assert all("description" in field for field in schema.get("properties", {}).values())


@pytest.mark.parametrize("method", ALL, ids=lambda method: f"{method.family}-{method.name}")
def test_every_methods_name_can_be_typed(method):
    assert method.name == method.name.lower()
    assert method.name.replace("_", "").isalnum()
