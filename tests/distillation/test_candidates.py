"""Candidates: neighbours of embeddings set by hand, and predictions of a masked language model that are known."""

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from hfcompress.distillation.candidates import NearestWords, ProbableWords, load_candidates
from hfcompress.distillation.words import encode_texts, whole_words
from hfcompress.errors import ModelError
from tests.distillation.vocabularies import wordpiece
from tests.tiny import FAMILIES, tiny_config, tiny_model

WORDS = ["film", "movie", "show", "dull", "bright", "un", "##dull", "##er", "the", "."]
TEXTS = ["the film.", "the dull, dull show. the bright film.", "movie"]


def masked_model(family="bert", **overrides):
    torch.manual_seed(0)
    return AutoModelForMaskedLM.from_config(tiny_config(family, **overrides)).eval()


def places_in(texts, tokenizer):
    return [(text, word) for text in encode_texts(texts, tokenizer) for word in text.words]


def bert_that_prefers(tokenizer, words, folder=None):
    """A model whose logits are its bias: the words in their order, whatever the text."""
    model = masked_model()
    head = model.cls.predictions
    torch.nn.init.zeros_(head.transform.LayerNorm.weight)
    torch.nn.init.zeros_(head.transform.LayerNorm.bias)
    with torch.no_grad():
        head.decoder.bias.copy_(torch.full((64,), -100.0))
        for rank, word in enumerate(words):
            head.decoder.bias[tokenizer.convert_tokens_to_ids(word)] = -float(rank)
    return model


def nearest(count=3):
    """Words on a plane: film (0°), movie (10°), show (30°), dull (90°), bright (100°); others point away."""
    tokenizer = wordpiece(WORDS)
    angles = {"film": 0, "movie": 10, "show": 30, "dull": 90, "bright": 100, "un": 180, "##dull": 90, "##er": 60}
    embeddings = torch.full((64, 2), -1.0)
    for word, angle in angles.items():
        radians = torch.tensor(angle * torch.pi / 180)
        # Lengths differ, which a cosine does not see.
        embeddings[tokenizer.convert_tokens_to_ids(word)] = torch.stack([radians.cos(), radians.sin()]) * len(word)
    return tokenizer, NearestWords(embeddings, whole_words(tokenizer), count)


def test_nearest_words_by_cosine():
    tokenizer, find = nearest()
    assert find(places_in(["film dull. film"], tokenizer)) == [
        ["movie", "show", "dull"],
        ["bright", "show", "movie"],
        ["movie", "show", "dull"],
    ]


def test_a_word_of_several_pieces_lies_at_their_mean():
    tokenizer, find = nearest(count=2)
    # "dull" (4 long, 90°) and "##er" (4 long, 60°): 75°; its own piece "dull" is no candidate.
    # "un" (2 long, 180°) and "##dull" (6 long, 90°): 108.4°.
    assert find(places_in(["duller", "undull"], tokenizer)) == [["bright", "show"], ["bright", "dull"]]


def test_no_more_words_than_there_are():
    tokenizer, find = nearest(count=50)
    assert find(places_in(["film"], tokenizer)) == [["movie", "show", "dull", "bright", "the", "un"]]
    assert find([]) == []


def test_many_words_are_compared_in_parts(monkeypatch):
    tokenizer, find = nearest()
    places = places_in(TEXTS, tokenizer)
    at_once = find(places)
    monkeypatch.setattr("hfcompress.distillation.candidates._QUERIES", 2)
    assert find(places) == at_once


def test_probable_words_are_those_that_the_model_prefers():
    tokenizer = wordpiece(WORDS)
    preferred = ["[MASK]", "##er", ".", "bright", "[UNK]", "film", "movie", "show"]
    model = bert_that_prefers(tokenizer, preferred)
    find = ProbableWords(model, tokenizer, whole_words(tokenizer), count=2)
    assert find(places_in(["the film"], tokenizer)) == [["bright", "film"], ["bright", "movie"]]
    assert find([]) == []


def test_a_word_of_several_pieces_is_not_masked():
    tokenizer = wordpiece(WORDS)
    model = bert_that_prefers(tokenizer, ["bright"])
    vocabulary = whole_words(tokenizer)
    near = NearestWords(model.get_input_embeddings().weight, vocabulary, 3)
    places = places_in(["duller film undull"], tokenizer)
    found = ProbableWords(model, tokenizer, vocabulary, 3)(places)
    assert found[1][0] == "bright"
    assert [found[0], found[2]] == near([places[0], places[2]])


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_give_what_each_text_alone_does(family):
    tokenizer = wordpiece(WORDS)
    model = masked_model(family)
    vocabulary = whole_words(tokenizer)
    places = places_in(TEXTS, tokenizer)
    find = ProbableWords(model, tokenizer, vocabulary, count=3, batch_size=4)
    expected = []
    for text, word in places:
        ids = torch.tensor([text.ids])
        ids[0, word.position] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        ranked = logits[0, word.position, vocabulary.ids].argsort(descending=True).tolist()
        expected.append(vocabulary.choose(ranked, word, 3))
    assert find(places) == expected
    assert not model.base_model._forward_hooks


def test_a_long_text_is_read_through_a_window():
    tokenizer = wordpiece(WORDS)
    tokenizer.model_max_length = 8
    find = ProbableWords(masked_model(), tokenizer, whole_words(tokenizer), count=1)
    places = places_in(["film movie show dull bright un the film movie show"], tokenizer)
    cut = [find._masked(*place) for place in places]
    assert all(len(ids) == 8 and ids[0] == 2 and ids[-1] == 3 and ids[place] == 4 for ids, place in cut)
    assert [place for _, place in cut] == [1, 2, 3, 4, 4, 4, 4, 4, 5, 6]
    inner = places[0][0].ids[1:-1]
    assert cut[5][0][1:-1] == [*inner[2:5], 4, *inner[6:8]]
    assert len(find(places)) == 10


def save(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_finds_the_same_words(family, tmp_path):
    tokenizer = wordpiece(WORDS)
    model = masked_model(family)
    find, weights = load_candidates(save(model, tokenizer, tmp_path), tokenizer, "masked-lm", 3)
    places = places_in(TEXTS, tokenizer)
    assert find(places) == ProbableWords(model, tokenizer, whole_words(tokenizer), 3)(places)
    near, other = load_candidates(str(tmp_path), tokenizer, "embedding", 3)
    assert near(places) == NearestWords(model.get_input_embeddings().weight, whole_words(tokenizer), 3)(places)
    assert weights != other


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["classifier", "encoder"])
def test_a_head_that_would_be_random_is_refused(family, kind, tmp_path):
    tokenizer = wordpiece(WORDS)
    model = tiny_model(family) if kind == "classifier" else AutoModel.from_config(tiny_config(family))
    source = save(model, tokenizer, tmp_path)
    with pytest.raises(ModelError, match="has no trained head for masked language modelling .* --method embedding"):
        load_candidates(source, tokenizer, "masked-lm", 3)
    assert load_candidates(source, tokenizer, "embedding", 3)[0](places_in(["film"], tokenizer))


def test_a_decoder_is_refused_for_masked_words(tmp_path):
    tokenizer = wordpiece(WORDS)
    config = GPT2Config(vocab_size=64, n_positions=64, n_embd=8, n_layer=1, n_head=2)
    with pytest.raises(ModelError, match="weights cannot be used"):
        load_candidates(save(GPT2LMHeadModel(config), tokenizer, tmp_path), tokenizer, "masked-lm", 3)


def test_a_model_that_does_not_fit_its_tokenizer_is_refused(tmp_path):
    tokenizer = wordpiece(WORDS)
    source = save(BertModel(tiny_config(vocab_size=9)), tokenizer, tmp_path)
    with pytest.raises(ModelError, match="its tokenizer counts to 14, but it has only 9 embeddings"):
        load_candidates(source, tokenizer, "embedding", 3)


def test_a_tokenizer_without_words_or_mask_is_refused(tmp_path):
    tokenizer = wordpiece(["##a", "1", "."])
    source = save(masked_model(), tokenizer, tmp_path)
    with pytest.raises(ModelError, match="holds no whole words"):
        load_candidates(source, tokenizer, "embedding", 3)
    tokenizer.mask_token = None
    with pytest.raises(ModelError, match="has no mask token"):
        load_candidates(source, tokenizer, "masked-lm", 3)


def test_weights_that_are_not_there_are_refused(tmp_path):
    tokenizer = wordpiece(WORDS)
    model = BertModel(BertConfig(**tiny_config().to_dict() | {"num_hidden_layers": 1}))
    source = save(model, tokenizer, tmp_path)
    tiny_config(layers=2).save_pretrained(source)
    with pytest.raises(ModelError, match=r"its weights lack encoder\.layer\.1"):
        load_candidates(source, tokenizer, "embedding", 3)


def test_the_fingerprint_tells_weights_and_vocabularies_apart(tmp_path):
    tokenizer, other = wordpiece(WORDS), wordpiece([*WORDS, "more"])
    source = save(masked_model(), tokenizer, tmp_path)
    one = load_candidates(source, tokenizer, "embedding", 3)[1]
    assert one == load_candidates(source, tokenizer, "embedding", 5)[1]
    assert one != load_candidates(source, other, "embedding", 3)[1]
    model = masked_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[0] += 1
    assert one != load_candidates(save(model, tokenizer, tmp_path), tokenizer, "embedding", 3)[1]
