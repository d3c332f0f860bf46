"""Vocabulary trimming: exact on the corpus, new words are split, roles stay, what cannot be is said."""

import logging

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from hfcompress import CompressionTrainer
from hfcompress.config import parse
from hfcompress.context import Context
from hfcompress.data import TaskData
from hfcompress.errors import DataError, ModelError, RequestError, TeacherError
from hfcompress.measure.quality import predict
from hfcompress.pruning.vocabulary import Trim, VocabularyConfig, plan, vocabulary
from hfcompress.registry import find
from hfcompress.tasks import find_task
from tests.distillation.vocabularies import wordpiece
from tests.tiny import tiny_config, tiny_head, tiny_tokenizer
from tests.trained_tokenizers import KINDS, TEXTS, as_class, trained
from tests.training.runs import arguments

each_kind = pytest.mark.parametrize("kind", KINDS)
SEEN, UNSEEN = TEXTS[:4], TEXTS[4:]
TASK = "text-classification"


def rows(texts):
    return Dataset.from_dict({"text": list(texts), "labels": [index % 2 for index in range(len(texts))]})


def context(tokenizer, texts=SEEN, held_out=UNSEEN, task=TASK, unlabeled=None):
    data = TaskData(rows(texts), rows(held_out), ("negative", "positive"), max_length=None)
    data.unlabeled = rows(unlabeled) if unlabeled else None
    return Context(find_task(task), data, tokenizer, 0, None, {}, progress=False)


def model_for(tokenizer, family="bert", head="ForSequenceClassification", **overrides):
    ids = {"pad_token_id": tokenizer.pad_token_id or 0, "bos_token_id": tokenizer.bos_token_id}
    ids["eos_token_id"] = tokenizer.eos_token_id
    size = {"vocab_size": len(tokenizer) + 5, "max_position_embeddings": 200, "num_labels": 3}
    return tiny_head(family, head, **{**size, **ids, **overrides})


def trim(tokenizer, texts=SEEN, model=None, **options):
    """The trimmed model and its tokenizer."""
    around = context(tokenizer, texts)
    options = {"multiple_of": 1, **options}
    model = vocabulary(model or model_for(tokenizer), VocabularyConfig(**options), around)
    return model, around.processor


def pieces(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def logits(model, tokenizer, text):
    batch = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


@each_kind
def test_pieces_and_predictions_on_the_corpus_are_the_same(kind):
    old = trained(kind)
    model = model_for(old)
    before = [logits(model, old, text) for text in SEEN]
    small, new = trim(old, model=model)
    assert small.config.vocab_size == small.get_input_embeddings().num_embeddings == len(new) < len(old)
    for text, wanted in zip(SEEN, before, strict=True):
        assert pieces(new, text) == pieces(old, text)
        assert torch.equal(logits(small, new, text), wanted)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("bert", "BertTokenizerFast"),
        ("distilbert", "DistilBertTokenizerFast"),
        ("electra", "ElectraTokenizerFast"),
        ("mobilebert", "MobileBertTokenizerFast"),
        ("squeezebert", "SqueezeBertTokenizerFast"),
        ("roberta", "RobertaTokenizerFast"),
        ("xlm-roberta", "XLMRobertaTokenizerFast"),
        ("mpnet", "RobertaTokenizerFast"),
        ("albert", "AlbertTokenizerFast"),
        ("gpt2", "GPT2TokenizerFast"),
        ("bart", "BartTokenizerFast"),
        ("llama", "LlamaTokenizerFast"),
    ],
)
def test_saved_and_loaded_it_answers_the_same_to_padded_batches(family, name, tmp_path):
    old = as_class(name)
    old.pad_token = old.pad_token or old.unk_token
    around = context(old)
    model = model_for(old, family)
    task, data = around.task, around.data
    before = predict(model, old, data.train, task, None)
    vocabulary(model, VocabularyConfig(multiple_of=1), around)
    model.save_pretrained(tmp_path)
    around.processor.save_pretrained(tmp_path)
    loaded, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
    )
    assert loaded.config.vocab_size == len(tokenizer) < len(old)
    assert type(tokenizer) is type(old)
    after = predict(loaded.eval(), tokenizer, data.train, task, None)
    assert (after == before).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wordlevel"])
def test_new_words_fall_into_smaller_pieces_where_the_original_could_read_them(kind):
    old = trained(kind)
    _, new = trim(old)
    for text in UNSEEN:
        assert new.decode(new(text)["input_ids"]) == old.decode(old(text)["input_ids"])
        assert new(text)["input_ids"].count(new.unk_token_id) == old(text)["input_ids"].count(old.unk_token_id)


def test_without_fallback_new_words_are_unknown():
    old = wordpiece(["a", "b", "##b", "ab", "bb"])
    model = model_for(old)
    _, new = trim(old, ["a"], model, fallback=False)
    assert pieces(new, "a ab") == ["[CLS]", "a", "[UNK]", "[SEP]"]
    assert len(new) == 6
    _, new = trim(old, ["a"])
    assert pieces(new, "a ab") == ["[CLS]", "a", "a", "##b", "[SEP]"]


def test_a_word_that_is_unknown_for_its_longest_piece_stays_unknown():
    # `abc` is taken first and nothing reads what is left; without it `ab` and `##cd` would read the word.
    old = wordpiece(["a", "##b", "##c", "##d", "ab", "##cd", "abc"][4:])
    assert pieces(old, "abcd") == ["[CLS]", "[UNK]", "[SEP]"]
    _, new = trim(old, ["abcd", "ab"], fallback=False, keep=["##cd"])
    assert pieces(new, "abcd") == ["[CLS]", "[UNK]", "[SEP]"]
    assert pieces(new, "ab") == ["[CLS]", "ab", "[SEP]"]


ALPHABET = st.text(st.sampled_from("aehlnorstuw -,'é漢🙂"), max_size=24)


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level", "sentencepiece-bpe", "xlm-roberta"])
@settings(max_examples=12, deadline=None)
@given(texts=st.lists(ALPHABET, min_size=1, max_size=4), new_word=ALPHABET, fallback=st.booleans())
def test_any_corpus_is_read_in_the_same_pieces(kind, texts, new_word, fallback):
    old = trained(kind)
    config = VocabularyConfig(multiple_of=1, fallback=fallback)
    new, _ = Trim(old, tiny_head("bert", "", vocab_size=len(old)), config, [*texts, "a"]).run()
    for text in texts:
        assert pieces(new, text) == pieces(old, text)
    if fallback:
        assert new(new_word)["input_ids"].count(new.unk_token_id) <= old(new_word)["input_ids"].count(old.unk_token_id)


def test_rows_without_labels_count_and_held_out_ones_do_not():
    old = tiny_tokenizer()
    around = context(old, ["fine"], ["warm"], unlabeled=["dull"])
    vocabulary(model_for(old), VocabularyConfig(multiple_of=1), around)
    assert {"fine", "dull"} <= set(around.processor.get_vocab())
    assert "warm" not in around.processor.get_vocab()
    around = context(old, ["fine"], ["warm"])
    vocabulary(model_for(old), VocabularyConfig(multiple_of=1, use_validation=True), around)
    assert "warm" in around.processor.get_vocab()


def test_more_texts_and_words_of_the_user(tmp_path):
    (tmp_path / "more.txt").write_text("cold\nthe end\n")
    _, new = trim(tiny_tokenizer(), ["fine"], corpus=[str(tmp_path / "more.txt")], keep=["warm", "plot"])
    assert set(new.get_vocab()) - set(new.all_special_tokens) == {"fine", "cold", "the", "end", "warm", "plot"}


def test_kept_words_of_bytes_stay_inside_a_text_too():
    old = trained("byte-level")
    assert pieces(old, "fox the fox")[1:-1] != pieces(trim(old, ["x"])[1], "fox the fox")[1:-1]
    _, new = trim(old, ["x"], keep=["fox", "the"])
    assert pieces(new, "fox the fox") == pieces(old, "fox the fox")


def test_rare_tokens_leave_and_only_texts_without_them_are_exact(caplog):
    old = tiny_tokenizer()
    with caplog.at_level(logging.INFO, "hfcompress"):
        model, new = trim(old, ["fine warm", "fine", "fine fine cold"], min_count=2)
    assert set(new.get_vocab()) - set(new.all_special_tokens) == {"fine"}
    # Of the ids in the three texts, special ones included, all but `warm` and `cold` are kept: 10 of 12.
    assert "kept 6 of 29 tokens (28 rows of the embeddings less, 896 parameters less)" in caplog.text
    assert "they are 83.33 % of the corpus's; 2 of 3 texts are read in other pieces" in caplog.text
    assert model.config.vocab_size == 6


def test_a_size_keeps_the_most_frequent():
    texts = ["fine fine fine warm warm cold"]
    _, new = trim(tiny_tokenizer(), texts, size=7)
    assert set(new.get_vocab()) - set(new.all_special_tokens) == {"fine", "warm"}
    _, new = trim(tiny_tokenizer(), texts, size=25)
    assert len(new) == 8


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level", "sentencepiece-bpe", "xlm-roberta"])
def test_a_size_is_never_exceeded(kind):
    old = trained(kind)
    smallest = len(trim(old, ["a"])[1])
    model, new = trim(old, size=smallest + 9)
    assert model.config.vocab_size == len(new) <= smallest + 9


def test_a_size_below_what_must_stay():
    with pytest.raises(RequestError, match=r"size: 3 tokens are fewer than the 5 that must stay\. Special tokens"):
        trim(tiny_tokenizer(), size=3)
    with pytest.raises(RequestError, match=r"size: cannot stand beside min_count=2"):
        parse(VocabularyConfig, {"size": 9, "min_count": 2})


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level"])
def test_a_multiple_is_filled_with_real_tokens(kind):
    old = trained(kind)
    exact = len(trim(old)[1])
    model, new = trim(old, multiple_of=64)
    assert model.config.vocab_size == len(new) == -(-exact // 64) * 64
    assert set(new.get_vocab()) < set(old.get_vocab())
    assert VocabularyConfig().multiple_of == 8


def test_rows_that_no_token_has_leave_unless_a_config_names_them():
    old = tiny_tokenizer()
    model = model_for(old, eos_token_id=len(old) + 2)
    row = model.get_input_embeddings().weight[len(old) + 2].clone()
    model, new = trim(old, ["fine"], model)
    assert len(new) == 6
    assert model.config.vocab_size == 7
    assert model.config.eos_token_id == 6
    assert torch.equal(model.get_input_embeddings().weight[6], row)


def test_tokens_without_a_row():
    old = tiny_tokenizer()
    model, new = trim(old, ["fine"], model_for(old, vocab_size=20))  # what the corpus does not use may lack one
    assert model.config.vocab_size == len(new) == 6
    with pytest.raises(
        ModelError, match=r"tokens 'plot' have no row in the model's embeddings of 20.*resize_token_emb"
    ):
        trim(old, ["fine plot"], model_for(old, vocab_size=20))
    old.add_special_tokens({"additional_special_tokens": ["<new>"]})
    with pytest.raises(ModelError, match="tokens '<new>' have no row"):
        trim(old, ["fine"], model_for(old, vocab_size=20))


def test_heads_over_words_give_the_same_logits_for_the_words_that_are_left(tmp_path):
    old = trained("wordpiece")
    model = model_for(old, head="ForMaskedLM")
    around = context(old, task="fill-mask")
    before = logits(model, old, SEEN[0])
    vocabulary(model, VocabularyConfig(), around)
    new = around.processor
    after = logits(model, new, SEEN[0])
    places = [old.get_vocab()[token] for token, _ in sorted(new.get_vocab().items(), key=lambda entry: entry[1])]
    assert torch.equal(after, before[..., places])
    share = before.softmax(-1)[..., places].sum(-1, keepdim=True)
    torch.testing.assert_close(after.softmax(-1), before.softmax(-1)[..., places] / share)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(AutoModelForMaskedLM.from_pretrained(tmp_path).eval(), new, SEEN[0]), after)


def test_sequences_are_generated_as_before():
    old = as_class("BartTokenizerFast")
    model = model_for(old, "bart", "ForSeq2SeqLM", decoder_start_token_id=2, forced_eos_token_id=2)
    rows_of_targets = Dataset.from_dict({"text": SEEN, "labels": UNSEEN})
    data = TaskData(rows_of_targets, rows_of_targets, (), max_length=None)
    around = Context(find_task("text2text-generation"), data, old, 0, None, {}, progress=False)
    batch = old(SEEN[0], return_tensors="pt")
    options = {"attention_mask": batch["attention_mask"], "max_new_tokens": 5, "do_sample": False, "num_beams": 1}
    before = model.generate(input_ids=batch["input_ids"], **options)
    written = [token for token in old.convert_ids_to_tokens(before[0]) if token]
    vocabulary(model, VocabularyConfig(keep=written), around)
    new = around.processor
    assert {token for text in UNSEEN for token in pieces(old, text)} <= set(new.get_vocab())  # targets count
    after = model.generate(input_ids=new(SEEN[0], return_tensors="pt")["input_ids"], **options)
    assert new.convert_ids_to_tokens(after[0]) == old.convert_ids_to_tokens(before[0])


def test_trimming_twice_is_the_same_as_once():
    model, once = trim(trained("wordpiece"))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model, twice = trim(once, model=model)
    assert once.get_vocab() == twice.get_vocab()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())


def test_a_teacher_with_all_words_cannot_teach_words_any_more(tmp_path):
    old = tiny_tokenizer()
    teacher = tiny_head("bert", "ForMaskedLM")
    student, new = trim(old, ["fine film"], tiny_head("bert", "ForMaskedLM"))
    encoded = find_task("fill-mask").encode(rows(["fine film"]), new, None)
    with pytest.raises(TeacherError, match="token|vocabular"):
        CompressionTrainer(
            model=student,
            args=arguments(tmp_path),
            train_dataset=encoded,
            data_collator=find_task("fill-mask").collator(new),
            processing_class=new,
            teacher=(teacher, old),
        )


def test_a_corpus_without_text_is_refused():
    with pytest.raises(DataError, match=r"corpus: there is no text in it\. Give training rows with text"):
        trim(tiny_tokenizer(), ["", " "])


def test_a_word_that_the_tokenizer_cannot_read_is_refused_and_all_are_named():
    with pytest.raises(RequestError) as caught:
        trim(tiny_tokenizer(), keep=["fine", "zebra", "giraffe"])
    assert [str(fault) for fault in caught.value.faults] == [
        "keep: the tokenizer has no token for 'zebra'. Leave it out.",
        "keep: the tokenizer has no token for 'giraffe'. Leave it out.",
    ]


def test_a_model_of_images_is_refused():
    with pytest.raises(ModelError, match="the architecture 'vit' reads no words, so it has no vocabulary to trim"):
        vocabulary(tiny_head("vit", "ForImageClassification"), VocabularyConfig(), context(None))
    with pytest.raises(ModelError, match="reads no words"):
        plan(VocabularyConfig(), tiny_config("resnet"), {})


def test_a_slow_tokenizer_is_refused():
    class Slow:
        is_fast = False

        def get_vocab(self):
            return {}

    with pytest.raises(ModelError, match=r"Slow is a slow tokenizer.*use_fast=True"):
        trim(Slow(), model=tiny_head("bert", "ForSequenceClassification"))


def test_the_plan_knows_a_size_that_was_asked_for():
    config = tiny_config("bert")
    assert plan(VocabularyConfig(), config, {}).vocab_size == 64
    assert plan(VocabularyConfig(size=20), config, {}).vocab_size == 20
    assert plan(VocabularyConfig(size=200), config, {}).vocab_size == 64
    assert config.vocab_size == 64
    assert find("pruning", "vocabulary").plan is plan
