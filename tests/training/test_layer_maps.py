"""What a layer map may be told as, before the models are known."""

import pytest

from hfcompress.errors import RequestError
from hfcompress.training.layer_maps import check_layer_map, is_name, read_pairs


def test_pairs_are_read_from_text_and_lists():
    assert read_pairs("1:2,3:6") == read_pairs([(1, 2), (3, 6)]) == [(1, 2), (3, 6)]


@pytest.mark.parametrize(("layer_map", "named"), [("uniform", True), ("1:2", False), ([(1, 2)], False)])
def test_names_hold_no_colon(layer_map, named):
    assert is_name(layer_map) is named
    check_layer_map(layer_map)


@pytest.mark.parametrize("layer_map", ["1:x", "1:2:3", ":", "1:2,", [], [(1,)], [(1, 2.5)]])
def test_pairs_that_cannot_be_read_are_refused(layer_map):
    with pytest.raises(RequestError, match="layer_map: takes a name or pairs such as 1:2,3:6"):
        check_layer_map(layer_map)


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(RequestError, match="layer_map: there is no layer map 'lest'.*'last'"):
        check_layer_map("lest")
