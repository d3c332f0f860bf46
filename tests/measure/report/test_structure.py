"""Layer by layer: which models share a structure, and what is said of ranks and bits."""

from hfcompress.measure.report import drawing, structure
from tests.measure.report.measured import realistic


def test_models_with_the_same_layers_share_a_picture():
    found = structure.structures(realistic()[0])
    assert [(one.name, len(one.layers)) for one in found] == [
        ("teacher", 6),
        ("student, student onnx", 3),
        ("student int8", 3),
    ]


def texts_of(layers):
    shown = [structure.Structure("one", layers)]
    with drawing.style("test"):
        _, (axes,) = drawing.new_figure(structure.height_of(shown))
        structure.draw_structure(axes, shown[0], shown, len(layers))
    return [text.get_text() for text in axes.texts]


def test_heads_neurons_ranks_and_bits_are_written():
    found = texts_of(
        [
            {"layer": 0, "heads": 4, "neurons": 3072, "rank": 64, "bits": {"attention": 8, "ffn": 8}},
            {"layer": 1, "heads": 0, "neurons": 16, "rank": None, "bits": {"attention": 8, "ffn": None}},
        ]
    )
    assert found == [
        *("one", "layer", "heads", "FFN neurons", "rank, bits"),
        *("0", "4", "3,072", "rank 64, 8 bit"),
        *("1", "0", "16", "8 bit"),
    ]


def test_parts_of_a_layer_may_differ():
    assert texts_of([{"layer": 0, "heads": 4, "neurons": 8, "rank": {"attention": 64, "ffn": 128}}])[-1] == (
        "attention 64, ffn 128"
    )


def test_unknown_numbers_are_left_out_and_many_heads_are_a_bar():
    assert texts_of([{"layer": 0, "heads": 64, "neurons": None, "rank": None, "bits": None}])[5:] == ["0", "64", ""]


def test_zeros_are_written_beside_ranks_and_bits():
    layers = [{"layer": 0, "heads": 4, "neurons": 8, "rank": None, "bits": {"attention": 32, "ffn": 32}, "zeros": 0.5}]
    assert texts_of(layers)[4:] == ["bits, zeros", "0", "4", "8", "32 bit, 50 % zeros"]
    assert texts_of([{"layer": 0, "heads": 4, "neurons": 8, "zeros": 0.004}])[4:] == ["zeros", "0", "4", "8", "0 %"]


def test_sizes_of_heads_are_written_where_they_differ():
    layers = [{"layer": 0, "heads": 4, "head_size": 32, "neurons": 8}, {"layer": 1, "heads": 4, "head_size": 16}]
    assert texts_of(layers)[5:] == ["0", "4 × 32", "8", "", "1", "4 × 16", ""]
    assert texts_of(layers[:1])[5:] == ["0", "4", "8", ""]
