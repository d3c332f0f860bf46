"""First weights from the teacher: embeddings up to a rotation, layers and heads where they fit, ties that hold."""

import pytest
import torch
import transformers

from hfcompress.modeling.cut import cut
from hfcompress.modeling.families import layers_of, stacks_of
from hfcompress.modeling.initialise import initialise_from_teacher, singular_vectors
from hfcompress.modeling.parse_cut import parse_cut_of
from tests.tiny import CONVOLUTIONAL, HEADS, tiny_head, tiny_inputs

CLASSIFIER = "ForSequenceClassification"


def started(family, teacher, head=CLASSIFIER, **options):
    student = tiny_head(family, head, seed=9, **options)
    initialise_from_teacher(student, teacher)
    return student


def tables(model):
    embeddings = model.base_model.embeddings
    names = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    return [getattr(embeddings, name).weight.detach() for name in names]


@torch.no_grad()
def of_rank(model, rank):
    """Give a model embeddings that all lie in one space of that many dimensions."""
    space = torch.randn(rank, 32)
    for table in tables(model):
        table.copy_(torch.randn(len(table), rank) @ space)
    return model


def test_embeddings_of_low_rank_are_reproduced_up_to_a_rotation():
    teacher = of_rank(tiny_head("bert", CLASSIFIER), rank=8)
    student = started("bert", teacher, width=8, intermediate_size=16)
    ours, theirs = torch.cat(tables(student)), torch.cat(tables(teacher))
    assert ours.shape[1] == 8
    # One rotation for words, positions and segments: dot products across the tables agree too.
    assert torch.allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-3, rtol=1e-4)


def test_no_projection_of_that_width_is_nearer_to_the_dot_products():
    teacher = tiny_head("bert", CLASSIFIER)
    ours, theirs = (tables(m)[0].double() for m in (started("bert", teacher, width=8), teacher))
    error = (ours @ ours.T - theirs @ theirs.T).pow(2).sum()
    lost = torch.linalg.svdvals(theirs)[8:].pow(4).sum()  # what no matrix of rank 8 can hold (Eckart and Young)
    assert torch.isclose(error, lost, rtol=1e-4)


def test_singular_vectors_are_those_of_a_singular_value_decomposition():
    table = torch.randn(40, 6)
    vectors = singular_vectors(table)
    exact = torch.linalg.svd(table.double(), full_matrices=False).Vh.T
    assert torch.allclose((vectors * exact).sum(dim=0).abs(), torch.ones(6, dtype=torch.float64), atol=1e-8)


def test_equal_widths_are_copied_and_wider_ones_padded_with_zeros():
    teacher = tiny_head("bert", CLASSIFIER)
    for ours, theirs in zip(tables(started("bert", teacher)), tables(teacher), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(tables(started("bert", teacher, width=48)), tables(teacher), strict=True):
        assert torch.equal(ours[:, :32], theirs)
        assert not ours[:, 32:].any()


def test_a_narrow_table_of_words_beside_wide_positions():
    teacher = of_rank(tiny_head("bert", CLASSIFIER), rank=16)
    student = started("mobilebert", teacher)  # words 16 wide, positions 32
    words, positions, _ = tables(student)
    assert (words.shape[1], positions.shape[1]) == (16, 32)
    for ours, theirs in zip((words, positions), tables(teacher), strict=False):
        assert torch.allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-3, rtol=1e-4)
    assert torch.allclose(words @ positions[:, :16].T, tables(teacher)[0] @ tables(teacher)[1].T, atol=1e-3, rtol=1e-4)


def test_positions_are_counted_from_the_first_token():
    teacher = tiny_head("roberta", CLASSIFIER, pad_token_id=1, max_position_embeddings=82)
    student = started("bert", teacher, max_position_embeddings=80)
    assert torch.equal(tables(student)[1], tables(teacher)[1][2:])


@pytest.mark.parametrize("family", sorted(set(HEADS) - set(CONVOLUTIONAL)))
def test_of_the_same_family_and_width_it_is_the_even_cut(family):
    teacher = tiny_head(family, HEADS[family][-1], layers=4)
    student = started(family, teacher, HEADS[family][-1], layers=2)
    expected = cut(teacher, *parse_cut_of("cut:layers=2", teacher.config))
    ours, theirs = student.state_dict(), expected.state_dict()
    different = {name for name in theirs if not torch.equal(ours[name], theirs[name])}
    assert different == set()


def test_distilbert_starts_with_berts_layers():
    teacher = tiny_head("bert", layers=4)
    student = started("distilbert", teacher, "", layers=2)
    without_segments = tiny_head("bert", layers=4)
    without_segments.load_state_dict(teacher.state_dict())
    without_segments.embeddings.token_type_embeddings.weight.data.zero_()
    expected = cut(without_segments, [1, 3])
    batch = tiny_inputs(student)
    with torch.no_grad():
        assert torch.allclose(student(**batch)[0], expected(**batch)[0], atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"width": 16}, {"num_attention_heads": 2}, {"intermediate_size": 48}, {"layers": 5}]
)
def test_layers_that_do_not_fit_stay_as_they_are(options):
    teacher = tiny_head("bert", CLASSIFIER, layers=4)
    before = layers_of(tiny_head("bert", CLASSIFIER, seed=9, **options)).state_dict()
    after = layers_of(started("bert", teacher, **options)).state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_head_is_copied_where_its_shape_agrees():
    teacher = tiny_head("bert", CLASSIFIER, num_labels=3)
    assert torch.equal(started("squeezebert", teacher, num_labels=3).classifier.weight, teacher.classifier.weight)
    narrow = started("bert", teacher, width=16, num_labels=3)
    assert narrow.classifier.weight.shape == (3, 16)
    assert torch.equal(narrow.classifier.bias, teacher.classifier.bias)


@pytest.mark.parametrize("width", [16, 32])
@pytest.mark.parametrize("family", ["bert", "distilbert", "mobilebert", "squeezebert"])
def test_tied_heads_stay_tied(family, width, tmp_path):
    teacher = tiny_head("bert", "ForMaskedLM")
    more = {"embedding_size": width} if family == "squeezebert" else {}
    student = started(family, teacher, "ForMaskedLM", width=width, **more)
    assert student.get_output_embeddings().weight is student.get_input_embeddings().weight
    assert torch.equal(student.get_output_embeddings().bias, teacher.get_output_embeddings().bias)
    student.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.allclose(loaded(**tiny_inputs(loaded))[0], student(**tiny_inputs(student))[0], atol=1e-6)


def test_the_teacher_is_left_as_it_is_and_shares_nothing():
    teacher = tiny_head("bert", CLASSIFIER)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student = started("bert", teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("family", CONVOLUTIONAL)
def test_networks_for_images_take_what_has_the_same_name_and_shape(family):
    teacher = tiny_head("vit", "ForImageClassification", width=16 if family == "resnet" else 32)
    student = started(family, teacher, "ForImageClassification")
    with torch.no_grad():
        assert torch.isfinite(student(**tiny_inputs(student)).logits).all()
    larger = tiny_head(family, "ForImageClassification", seed=3)
    same = started(family, larger, "ForImageClassification")
    heads = [list(model.classifier.modules())[-1].weight for model in (same, larger)]
    assert torch.equal(*heads)


def test_an_architecture_without_a_row_still_gets_its_embeddings():
    teacher = tiny_head("bert", CLASSIFIER)
    config = transformers.AutoConfig.for_model(
        "roformer", vocab_size=64, hidden_size=32, num_attention_heads=4, num_hidden_layers=1, embedding_size=32
    )
    student = transformers.AutoModelForSequenceClassification.from_config(config)
    initialise_from_teacher(student, teacher)
    assert torch.equal(student.get_input_embeddings().weight, teacher.get_input_embeddings().weight)


def test_encoder_and_decoder_are_both_copied():
    teacher = tiny_head("bart", "ForSeq2SeqLM", layers=4)
    student = started("bart", teacher, "ForSeq2SeqLM", encoder_layers=2, decoder_layers=1)
    (_, encoder), (_, decoder) = stacks_of(student)
    (_, encoder_before), (_, decoder_before) = stacks_of(teacher)
    assert torch.equal(encoder[0].fc1.weight, encoder_before[1].fc1.weight)
    assert torch.equal(decoder[0].encoder_attn.q_proj.weight, decoder_before[3].encoder_attn.q_proj.weight)
