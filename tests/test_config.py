"""Configuration: what is typed is taken or refused, every fault at once, and one declaration gives the JSON schema."""

from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Annotated, Literal

import jsonschema
import pytest
from annotated_types import Gt, Interval
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.config import check_values, checked_by, gather, json_schema, option, parse
from hfcompress.data import DataConfig
from hfcompress.errors import DataError, Fault, RequestError


@dataclass
class Inner:
    """Options of a part."""

    warmup_ratio: Annotated[float, Interval(ge=0, le=1)] = option(0.0, help="share of the steps")


@dataclass
class Options:
    """Options of everything."""

    name: str = option(help="what it is called")
    layers: Annotated[int, Gt(0)] = option(3, help="how many layers")
    kind: Literal["soft", "hard"] = option("soft", help="which kind")
    validation: str | int | float | None = option(None, help="a split or a share")
    ranks: int | list[int] = option(8, help="one rank or several")
    skip: list[str] = option([], help="names to skip")
    inner: Inner | None = option(None, help="a part that may be absent")
    part: Inner = field(default_factory=Inner, metadata={"help": "a part"})


def faults(values, cls=Options, where=""):
    with pytest.raises(RequestError) as error:
        parse(cls, values, where)
    return [str(fault) for fault in error.value.faults]


def test_what_is_not_given_keeps_its_default():
    assert asdict(parse(Options, {"name": "x"})) == {
        "name": "x",
        "layers": 3,
        "kind": "soft",
        "validation": None,
        "ranks": 8,
        "skip": [],
        "inner": None,
        "part": {"warmup_ratio": 0.0},
    }


@pytest.mark.parametrize(
    ("values", "key", "value"),
    [
        ({"layers": "6"}, "layers", 6),
        ({"layers": 6.0}, "layers", 6),
        ({"validation": "0.1"}, "validation", "0.1"),
        ({"validation": 0.1}, "validation", 0.1),
        ({"validation": 100}, "validation", 100),
        ({"ranks": [4, "8"]}, "ranks", [4, 8]),
        ({"part": {"warmup_ratio": 1}}, "part", Inner(1.0)),
        ({"inner": {"warmup_ratio": "0.5"}}, "inner", Inner(0.5)),
    ],
)
def test_values_become_the_declared_types(values, key, value):
    found = getattr(parse(Options, {"name": "x", **values}), key)
    assert found == value
    assert type(found) is type(value)


def test_hyphens_count_as_underscores():
    assert parse(Inner, {"warmup-ratio": 0.5}) == Inner(0.5)


def test_list_defaults_are_not_shared():
    one, other = parse(Options, {"name": "x"}), Options(name="y")
    one.skip.append("head")
    assert other.skip == []
    assert parse(Options, {"name": "x"}).skip == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, ["name: is missing."]),
        ({"name": 5}, ["name: input should be a valid string, got 5."]),
        ({"name": "x", "layers": 0}, ["layers: input should be greater than 0, got 0."]),
        ({"name": "x", "layer": 2}, ["layer: there is no such key. Did you mean 'layers'?"]),
        ({"name": "x", "kind": "sift"}, ["kind: input should be 'soft' or 'hard', got 'sift'."]),
        ({"name": "x", "skip": "head"}, ["skip: input should be a valid list, got 'head'."]),
        (
            {"name": "x", "q": 2},
            ["q: there is no such key. Allowed: name, layers, kind, validation, ranks, skip, inner, part."],
        ),
        (
            {"name": "x", "validation": [1]},
            ["validation: input should be a valid string, or a valid integer, or a valid number, got [1]."],
        ),
        (
            {"name": "x", "ranks": "many"},
            [
                "ranks: input should be a valid integer, unable to parse string as an integer, "
                "or a valid list, got 'many'."
            ],
        ),
        (
            {"name": "x", "part": {"warmup_ration": 0.1}},
            ["part.warmup_ration: there is no such key. Did you mean 'warmup_ratio'?"],
        ),
        ({"name": "x", "part": {"layers": 1}}, ["part.layers: there is no such key. Allowed: warmup_ratio."]),
        (
            {"name": "x", "part": {"warmup_ratio": 2}},
            ["part.warmup_ratio: input should be less than or equal to 1, got 2."],
        ),
    ],
)
def test_a_fault_says_what_was_given_and_what_is_allowed(values, said):
    assert faults(values) == said


def test_every_fault_is_said_at_once_with_its_place():
    values = {"layers": -1, "knd": "hard", "part": {"warmup_ratio": "no"}, 7: 1}
    places = {fault.split(": ")[0] for fault in faults(values, where="steps.0.distill")}
    assert places == {f"steps.0.distill.{key}" for key in ("name", "layers", "knd", "part.warmup_ratio", "7")}


@pytest.mark.parametrize(
    ("values", "place"),
    [({"max_length": 3}, "max_length"), ({"max-train-samples": 0}, "max_train_samples"), ({"where": 3}, "where")],
)
def test_the_bounds_of_the_data_options_hold(values, place):
    assert [fault.split(": ")[0] for fault in faults({"dataset": "x", **values}, DataConfig)] == [place]


@pytest.mark.parametrize("rate", ["nan", float("nan"), -0.1, 1.1, "inf"])
def test_what_is_no_number_within_the_bounds_is_refused(rate):
    assert len(faults({"warmup_ratio": rate}, Inner)) == 1


def refuse_cuts(value):
    if value.startswith("cut:"):
        raise RequestError(Fault("cut", "has no layers.", "Write cut:layers=3."), Fault("cut", "has no heads."))


@dataclass
class Checked:
    """Options that look at their values, and across them."""

    student: Annotated[str | None, checked_by(refuse_cuts)] = option(None, help="the student")
    depth: Annotated[int, Gt(0)] = option(1, help="how deep")

    def check(self):
        if self.student == "deep" and self.depth < 2:
            raise RequestError(Fault("depth", "is 1, too little for this student."))


def test_a_fields_own_check_speaks_together_with_the_others():
    assert parse(Checked, {"student": None}) == Checked()
    assert parse(Checked, {"student": "small"}).student == "small"
    said = " ".join(faults({"student": "cut:", "depth": 0}, Checked))
    assert all(
        words in said for words in ("has no layers", "Write cut:layers=3.", "has no heads", "depth: input should")
    )


def test_a_check_across_the_fields_comes_last():
    assert parse(Checked, {"student": "deep", "depth": 2}).depth == 2
    assert faults({"student": "deep"}, Checked) == ["depth: is 1, too little for this student."]


def test_other_peoples_types_are_checked_too():
    hints = {"steps": int, "rate": float | None, "how": Literal["a", "b"], "extra": dict}
    assert check_values(hints, {"steps": "5", "rate": None, "how": "a"}) == {"steps": 5, "rate": None, "how": "a"}
    assert check_values(hints, {"rate": "1e-4"}) == {"rate": 1e-4}
    with pytest.raises(RequestError) as error:
        check_values(hints, {"steps": "5.5", "rate": "x", "how": "c", "extra": {}}, "training")
    assert [fault.where for fault in error.value.faults] == ["training.steps", "training.rate", "training.how"]


def test_gather_returns_all_results_or_raises_all_faults():
    def fail(*names):
        raise DataError(*(Fault(name, "is wrong.") for name in names))

    assert gather(lambda: 1, lambda: 2) == [1, 2]
    with pytest.raises(RequestError, match=r"^a: is wrong\.\nb: is wrong\.\nc: is wrong\.$"):
        gather(lambda: fail("a"), lambda: 2, lambda: fail("b", "c"))
    with pytest.raises(ZeroDivisionError):
        gather(lambda: 1 / 0, lambda: fail("a"))


def test_the_schema_describes_every_field_by_its_help():
    schema = json_schema(Options)
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False
    described = {name: entry["description"] for name, entry in schema["properties"].items()}
    assert described["layers"] == "how many layers"
    assert described["part"] == "a part"
    assert len(described) == 8
    assert schema["$defs"]["Inner"]["properties"]["warmup_ratio"] == {
        "default": 0.0,
        "description": "share of the steps",
        "maximum": 1,
        "minimum": 0,
        "title": "Warmup Ratio",
        "type": "number",
    }


@pytest.mark.parametrize(
    "values", [{"name": "x", "layers": 0}, {"name": "x", "nmae": 1}, {}, {"name": "x", "part": {"warmup_ratio": 2}}]
)
def test_the_schema_refuses_what_parsing_refuses(values):
    faults(values)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, json_schema(Options))


inner = st.builds(Inner, st.floats(0, 1))
options = st.builds(
    Options,
    name=st.text(max_size=8),
    layers=st.integers(1, 100),
    kind=st.sampled_from(["soft", "hard"]),
    validation=st.none() | st.text(max_size=5) | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    ranks=st.integers(1, 64) | st.lists(st.integers(1, 64)),
    skip=st.lists(st.text(max_size=5), max_size=3),
    inner=st.none() | inner,
    part=inner,
)


@settings(max_examples=40, deadline=None)
@given(options)
def test_what_a_config_holds_builds_the_same_config_and_satisfies_the_schema(config):
    values = asdict(config)
    parsed = parse(Options, values)
    assert parsed == config
    assert is_dataclass(parsed.part)
    assert type(parsed.validation) is type(config.validation)
    jsonschema.validate(values, json_schema(Options))


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.text(max_size=8), st.none() | st.booleans() | st.floats() | st.text(), min_size=1, max_size=5)
)
def test_unknown_keys_are_refused_whatever_they_are(values):
    assert len(faults(values, Inner)) == len({key.replace("-", "_") for key in values})


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", float("inf"), float("nan")])
def test_an_infinite_number_is_none(value):
    @dataclass
    class Damping:
        damping: float = option(0.01, help="a share")

    (fault,) = faults({"damping": value}, Damping)
    assert fault.startswith("damping: ")
    assert "finite" in fault
    with pytest.raises(RequestError):
        check_values({"learning_rate": float}, {"learning_rate": value})
