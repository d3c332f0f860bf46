"""Errors: one tree, every fault in the text, the nearest name offered, and an exit code a kind."""

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress import errors
from hfcompress.errors import DataError, Fault, HfcompressError, RequestError, closest, unknown

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_one_tree_and_says_what_it_is_for(kind):
    assert issubclass(kind, HfcompressError)
    assert kind.__name__.endswith("Error")
    assert kind.__doc__.strip()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_wrong_request_exits_with_2_what_fails_with_1_and_what_is_stopped_with_130(kind):
    codes = {"InterruptedByUserError": 130}
    assert kind.exit_code == codes.get(kind.__name__, 2 if issubclass(kind, ValueError) else 1)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("rank", "is 0."), "rank: is 0."),
        (Fault("rank", "is 0.", "Allowed: 1 or more."), "rank: is 0. Allowed: 1 or more."),
        (Fault("", "nothing to do."), "nothing to do."),
        (Fault("", "nothing to do.", "Add a step."), "nothing to do. Add a step."),
    ],
)
def test_a_fault_reads_as_a_sentence(fault, text):
    assert str(fault) == text


def test_a_request_error_holds_and_says_every_fault():
    error = DataError(Fault("a", "is wrong."), "so is this.")
    assert error.faults == (Fault("a", "is wrong."), Fault("", "so is this."))
    assert str(error) == "a: is wrong.\nso is this."
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("name", "nearest"), [("kll", "kl"), ("hidden-mse", "hidden_mse"), ("jds", "jsd"), ("zebra", None), ("", None)]
)
def test_the_nearest_name_is_offered_only_when_near(name, nearest):
    assert closest(name, ["kl", "jsd", "hidden_mse"]) == nearest


def test_an_unknown_name_lists_what_is_allowed():
    assert str(unknown("loss", "kll", {"kl": 1, "jsd": 2}, "losses")) == (
        "losses: there is no loss 'kll'. Did you mean 'kl'? Allowed: jsd, kl."
    )
    assert str(unknown("loss", "zebra", ["kl", "jsd"])) == "there is no loss 'zebra'. Allowed: jsd, kl."


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=10), min_size=1, unique=True), st.data())
def test_a_name_is_nearest_to_itself(names, data):
    name = data.draw(st.sampled_from(names))
    assert closest(name, names) == name


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=1, max_size=5))
def test_no_fault_is_lost(triples):
    faults = [Fault(*triple) for triple in triples]
    error = RequestError(*faults)
    assert list(error.faults) == faults
    assert all(str(fault) in str(error) for fault in faults)
