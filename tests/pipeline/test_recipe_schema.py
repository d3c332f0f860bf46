"""The JSON schema of recipes: valid, up to date, takes what the package ships and refuses what the reader refuses."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from hfcompress import registry
from hfcompress.pipeline.recipe import build_recipe, shipped_recipes
from tests.cli.support import hfcompress

FOLDER = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def schema():
    done = hfcompress("run", "--schema")
    assert (done.code, done.err) == (0, "")
    return done.json


def test_it_is_a_valid_schema(schema):
    Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["model", "data", "steps"]


def test_the_file_beside_the_recipes_is_up_to_date(schema):
    fix = "write it anew: hfcompress run --schema > recipes/recipe.schema.json"
    assert json.loads((FOLDER / "recipe.schema.json").read_text()) == schema, fix


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_pass_and_say_what_they_are_for(name, schema):
    path = shipped_recipes()[name]
    values = yaml.safe_load(path.read_text())
    Draft202012Validator(schema).validate(values)
    build_recipe(values)
    assert values["description"].endswith(".")
    assert path.parent == FOLDER


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(modle="x"),
        lambda r: r.pop("model"),
        lambda r: r["data"].update(txt_column="t"),
        lambda r: r["data"].update(max_length=1),
        lambda r: r.update(seed=-1),
        lambda r: r["steps"].append({"distil": {}}),
        lambda r: r["steps"][1]["distill"].update(alpha=2),
        lambda r: r["steps"][1]["distill"].update(temperature=0),
        lambda r: r.update(steps={}),
    ],
)
def test_what_the_schema_refuses_the_reader_refuses_too(change, schema):
    values = yaml.safe_load((FOLDER / "quickstart.yaml").read_text())
    changed = copy.deepcopy(values)
    change(changed)
    with pytest.raises(ValidationError):
        Draft202012Validator(schema).validate(changed)
    with pytest.raises(ValueError, match=r"."):
        build_recipe(changed)


def test_editors_show_the_help(schema):
    assert all(entry.get("description") for entry in schema["properties"].values())
    steps = schema["properties"]["steps"]["items"]["properties"]
    assert {*registry.steps(), "as"} == set(steps)
    for method in registry.steps():
        assert all(entry.get("description") for entry in steps[method]["properties"].values())
