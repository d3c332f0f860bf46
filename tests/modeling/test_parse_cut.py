"""Descriptions of cuts: every spelling, every fault, and the even spread."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.errors import ModelError, RequestError
from hfcompress.modeling.layer_patterns import even_layers
from hfcompress.modeling.parse_cut import parse_cut, parse_cut_of
from tests.tiny import tiny_config


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("cut:layers=3", [1, 3, 5]),
        ("cut:layers=1", [5]),
        ("cut:layers=6", [0, 1, 2, 3, 4, 5]),
        ("cut:layers=0,2,5", [0, 2, 5]),
        ("cut: layers = 0, 2 , 5 ", [0, 2, 5]),
        ("cut:layers=4,", [4]),
        ("cut:layers=3;", [1, 3, 5]),
        ("layers=2", [2, 5]),
    ],
)
def test_reads_every_spelling(spec, layers):
    assert parse_cut(spec, 6) == layers


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cut:layers=0", "the teacher has 6 layers, 0 were asked for. Allowed: 1 to 6."),
        ("cut:layers=7", "the teacher has 6 layers, 7 were asked for. Allowed: 1 to 6."),
        ("cut:layers=0,6,9", "the teacher has no layer 6, 9. Its 6 layers are counted from 0 to 5."),
        ("cut:layers=2,1", "layers are to be named once each, in ascending order."),
        ("cut:layers=1,1", "layers are to be named once each, in ascending order."),
        ("cut:layers=a", "layers takes a number or a list such as 0,2,5, got 'a'."),
        ("cut:layers=-1", "layers takes a number or a list such as 0,2,5, got '-1'."),
        ("cut:layers=1.5", "layers takes a number or a list such as 0,2,5, got '1.5'."),
        ("cut:layers=1,,2", "layers takes a number or a list such as 0,2,5, got '1,,2'."),
        ("cut:layers=", "layers takes a number or a list such as 0,2,5, got ''."),
        ("cut:layers", "layers takes a number or a list such as 0,2,5, got ''."),
        ("cut:layers=3;layers=2", "layers is given twice."),
        ("cut:layer=3", "there is no cut 'layer'. Did you mean 'layers'? Allowed: layers."),
        ("cut:", "names nothing to cut. Write for example cut:layers=3 or cut:layers=0,2,5."),
    ],
)
def test_says_what_is_wrong_with_it(spec, message):
    with pytest.raises(RequestError) as error:
        parse_cut(spec, 6)
    assert str(error.value) == f"{spec}: {message}"


def test_names_all_faults_at_once():
    with pytest.raises(RequestError) as error:
        parse_cut("cut:heds=1;layers=x", 6)
    assert len(error.value.faults) == 2


@pytest.mark.parametrize(
    ("count", "depth", "layers"),
    [(3, 12, [3, 7, 11]), (4, 6, [1, 2, 3, 5]), (6, 12, [1, 3, 5, 7, 9, 11]), (2, 3, [1, 2]), (1, 1, [0])],
)
def test_spreads_layers_evenly_as_written_by_hand(count, depth, layers):
    assert even_layers(count, depth) == layers


@settings(max_examples=50, deadline=None)
@given(depth=st.integers(1, 200), data=st.data())
def test_even_layers_are_distinct_in_order_and_end_with_the_last(depth, data):
    count = data.draw(st.integers(1, depth))
    layers = even_layers(count, depth)
    gaps = [after - before for before, after in zip([-1, *layers], layers, strict=False)]
    assert (len(layers), layers[-1]) == (count, depth - 1)
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 2


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("cut:layers=3", ([1, 3, 5], [0, 2, 3])),
        ("cut:layers=0,2", ([0, 2], [0, 2])),
        ("cut:encoder=6;decoder=2", ([0, 1, 2, 3, 4, 5], [1, 3])),
        ("cut:decoder=1", ([0, 1, 2, 3, 4, 5], [3])),
        ("cut:encoder=1,5;decoder=0,", ([1, 5], [0])),
    ],
)
def test_reads_cuts_of_an_encoder_and_a_decoder(spec, layers):
    assert parse_cut_of(spec, tiny_config("bart", encoder_layers=6, decoder_layers=4)) == layers


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cut:layers=5", "the teacher has 4 layers, 5 were asked for. Allowed: 1 to 4."),
        ("cut:decoder=9", "the teacher has 4 layers, 9 were asked for. Allowed: 1 to 4."),
        ("cut:encoder=0,7", "the teacher has no layer 7. Its 6 layers are counted from 0 to 5."),
        ("cut:layers=2;decoder=1", "layers means both stacks. Give either layers, or encoder and decoder."),
        ("cut:encoders=2", "there is no cut 'encoders'. Did you mean 'encoder'? Allowed: decoder, encoder, layers."),
    ],
)
def test_says_what_is_wrong_with_a_cut_of_two_stacks(spec, message):
    with pytest.raises(RequestError) as error:
        parse_cut_of(spec, tiny_config("t5", num_layers=6, num_decoder_layers=4))
    assert str(error.value) == f"{spec}: {message}"


@pytest.mark.parametrize("spec", ["cut:layers=3", "cut:layers=0,2,5"])
def test_reads_a_cut_of_one_stack_as_before(spec):
    assert parse_cut_of(spec, tiny_config("bert", layers=6)) == (parse_cut(spec, 6),)
    with pytest.raises(RequestError, match="there is no cut 'decoder'. Allowed: layers."):
        parse_cut_of("cut:decoder=2", tiny_config("bert", layers=6))


def test_a_family_that_cannot_be_cut_is_refused():
    with pytest.raises(ModelError, match="mobilenet_v2 cannot be cut: .* Choose a smaller student: resnet-18"):
        parse_cut_of("cut:layers=2", tiny_config("mobilenet_v2"))
