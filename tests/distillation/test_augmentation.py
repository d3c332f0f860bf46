"""Augmentation: which words are replaced, what is written, and a stopped run that ends as an uninterrupted one."""

import json
from itertools import count

import numpy as np
import pytest

from hfcompress.config import parse
from hfcompress.distillation import augmentation
from hfcompress.distillation.augmentation import CHUNK, AugmentConfig, augment, augment_rows, output_bytes
from hfcompress.errors import DiskSpaceError, InterruptedByUserError, OutputExistsError, RequestError
from tests.distillation.test_candidates import bert_that_prefers, masked_model, save
from tests.distillation.vocabularies import wordpiece
from tests.tiny import sentences

WORDS = ["film", "movie", "show", "dull", "bright", "the", "story", "is", "very", "cast", "fine", "cold", "."]
ROWS = [(text,) for text, _ in sentences(2 * CHUNK + 5)]


@pytest.fixture(scope="module")
def tokenizer():
    return wordpiece([*WORDS, "a", "and", "with", "its", "end", "plot", "flat", "warm", "moving", "funny", "clever"])


@pytest.fixture(scope="module")
def model(tokenizer, tmp_path_factory):
    return save(masked_model(), tokenizer, tmp_path_factory.mktemp("model"))


def always(*candidates):
    """Give every word the same candidates."""
    return lambda places: [list(candidates) for _ in places]


def made_of(rows, tokenizer, find, seed=1, **options):
    chunks = augment_rows(rows, tokenizer, find, AugmentConfig(**options), seed)
    return [variants for chunk in chunks for variants in chunk]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_with_probability_one_every_word_is_replaced(tokenizer):
    found = made_of([("The film, don't!",)], tokenizer, always("cold"), replace_probability=1.0, copies=3)
    assert found == [[("Cold cold, don't!",)]]  # three alike: one is kept


def test_what_equals_the_original_is_dropped(tokenizer):
    assert made_of([("film!",)], tokenizer, always("film"), replace_probability=1.0) == [[]]
    assert made_of([("film!",)], tokenizer, always(), replace_probability=1.0) == [[]]
    assert made_of([("12 !",)], tokenizer, always("film"), replace_probability=1.0) == [[]]
    some = made_of([("film film",)], tokenizer, always("cold"), copies=200)[0]
    assert sorted(some) == [("cold cold",), ("cold film",), ("film cold",)]


def test_the_shares_are_as_asked(tokenizer):
    rows = [("film " * 50,)] * CHUNK
    candidates = ["dull", "bright", "cold", "fine"]
    found = made_of(rows, tokenizer, always(*candidates), replace_probability=0.4, copies=10)
    words = [word for variants in found for (text,) in variants for word in text.split()]
    assert len(words) == CHUNK * 10 * 50
    shares = {word: words.count(word) / len(words) for word in set(words)}
    assert shares.keys() == {"film", *candidates}
    assert shares["film"] == pytest.approx(0.6, abs=0.02)
    assert all(shares[word] == pytest.approx(0.1, abs=0.012) for word in candidates)


def test_draws_are_those_of_the_row_and_copy(tokenizer):
    rows = [("film movie show",)] * (CHUNK + 3)
    found = made_of(rows, tokenizer, always("dull", "cold"), seed=5, copies=1, replace_probability=0.5)
    for number, variants in enumerate(found):
        random = np.random.default_rng((5, number, 0))
        chosen, picks = random.random(3) < 0.5, random.random(3)
        words = [
            ["dull", "cold"][int(pick * 2)] if replaced else word
            for word, replaced, pick in zip(["film", "movie", "show"], chosen, picks, strict=True)
        ]
        assert variants == ([(" ".join(words),)] if any(chosen) else [])


def test_both_texts_of_a_pair_are_varied(tokenizer):
    found = made_of([("film is", "the movie?")], tokenizer, always("cold", "dull"), replace_probability=1.0, copies=50)
    firsts, seconds = zip(*found[0], strict=True)
    assert set(firsts) == {f"{a} {b}" for a in ("cold", "dull") for b in ("cold", "dull")}
    assert set(seconds) == {f"{a} {b}?" for a in ("cold", "dull") for b in ("cold", "dull")}
    assert len(set(found[0])) == len(found[0]) > 4


def test_candidates_are_sought_for_replaced_words_alone(tokenizer):
    asked = []

    def find(places):
        asked.extend(word.text for _, word in places)
        return [["cold"] for _ in places]

    (variants,) = made_of([("film movie show dull bright story cast fine",)], tokenizer, find, copies=1)
    changed = [
        old
        for old, new in zip("film movie show dull bright story cast fine".split(), variants[0][0].split(), strict=True)
        if old != new
    ]
    assert asked == changed
    assert 0 < len(asked) < 8


def test_the_file(tokenizer, model, tmp_path):
    made = augment(ROWS, model, tmp_path / "more" / "out.jsonl", AugmentConfig(copies=4), progress=False)
    written = lines(tmp_path / "more" / "out.jsonl")
    assert [path.name for path in tmp_path.rglob("*")] == ["more", "out.jsonl"]
    assert {tuple(line) for line in written} == {("text", "augmented_from")}
    assert (made.rows, made.variants, made.dropped) == (len(ROWS), len(written), 4 * len(ROWS) - len(written))
    assert 3 * len(ROWS) < len(written) <= 4 * len(ROWS)
    assert made.rows_before == 0
    assert [original for original, _ in made.examples] == ROWS[:3]
    assert made.examples[0][1] == (written[0]["text"],)
    originals = [text for (text,) in ROWS]
    assert all(len(line["text"].split()) in {len(text.split()) for text in originals} for line in written)


def test_masked_words_end_to_end(tokenizer, tmp_path):
    source = save(bert_that_prefers(tokenizer, ["cold", ".", "Film", "film", "dull"]), tokenizer, tmp_path / "model")
    options = AugmentConfig(method="masked-lm", candidates=1, replace_probability=1.0)
    augment([("The FILM.\tThe cold",)], source, tmp_path / "out.jsonl", options, progress=False)
    assert lines(tmp_path / "out.jsonl") == [{"text": "Cold COLD.\tCold film", "augmented_from": "The FILM.\tThe cold"}]


def test_pairs_have_two_columns(model, tmp_path):
    augment([("the film", "the cold plot")], model, tmp_path / "out.jsonl", progress=False)
    assert {tuple(line) for line in lines(tmp_path / "out.jsonl")} == {("text", "text_pair", "augmented_from")}


def test_text_is_written_as_it_is(model, tmp_path):
    text = 'Ein "film" \u2028 — naïve\n電影 film'
    augment([(text,)], model, tmp_path / "out.jsonl", AugmentConfig(replace_probability=1.0), progress=False)
    written = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert "naïve" in written
    assert all('" \u2028 — naïve\n電影 ' in json.loads(line)["text"] for line in written.split("\n")[:-1])


def test_no_rows_no_lines(model, tmp_path):
    assert augment([], model, tmp_path / "out.jsonl", progress=False).variants == 0
    assert lines(tmp_path / "out.jsonl") == []


def test_the_seed_decides(model, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        augment(ROWS[:5], model, tmp_path / f"{name}.jsonl", seed=seed, progress=False)
    a, b, c = ((tmp_path / f"{name}.jsonl").read_bytes() for name in "abc")
    assert a == b != c


def stop_after(monkeypatch, calls, error=KeyboardInterrupt):
    """Let the search for candidates fail once it was called so many times."""
    honest, number = augmentation._vary, count()

    def vary(*arguments):
        if next(number) == calls:
            raise error
        return honest(*arguments)

    monkeypatch.setattr(augmentation, "_vary", vary)


@pytest.mark.parametrize("method", ["embedding", "masked-lm"])
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(method, calls, model, tmp_path, monkeypatch):
    options = AugmentConfig(method=method, copies=3)
    augment(ROWS, model, tmp_path / "whole.jsonl", options, progress=False)
    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        stop_after(patch, calls)
        with pytest.raises(InterruptedByUserError, match=rf"Stopped after {calls * CHUNK} of {len(ROWS)} rows"):
            augment(ROWS, model, out, options, progress=False)
    assert not out.exists()
    made = augment(ROWS, model, out, options, progress=False)
    assert made.rows_before == calls * CHUNK
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"whole.jsonl", "out.jsonl"}


def left_over(model, out, monkeypatch, **options):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(InterruptedByUserError):
            augment(ROWS, model, out, AugmentConfig(**options), progress=False)
    return out.with_name(".out.jsonl.partial")


@pytest.mark.parametrize("rest", ["", '[[["half a li', "[[]]"])
def test_a_line_that_was_cut_off_is_done_again(rest, model, tmp_path, monkeypatch):
    augment(ROWS, model, tmp_path / "whole.jsonl", progress=False)
    partial = left_over(model, tmp_path / "out.jsonl", monkeypatch)
    partial.write_text(partial.read_text(encoding="utf-8") + rest, encoding="utf-8")
    assert augment(ROWS, model, tmp_path / "out.jsonl", progress=False).rows_before == CHUNK
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_first_line_that_was_cut_off_is_written_again(model, tmp_path):
    (tmp_path / ".out.jsonl.partial").write_text('"0123')
    assert augment(ROWS, model, tmp_path / "out.jsonl", progress=False).rows_before == 0


def test_a_run_that_is_complete_but_for_its_file(model, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(augmentation.PartialLines, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            augment(ROWS, model, out, progress=False)
    made = augment(ROWS, model, out, progress=False)
    assert made.rows_before == made.rows == len(ROWS)
    assert len(lines(out)) == made.variants


@pytest.mark.parametrize(
    "other", [{"copies": 2}, {"replace_probability": 0.5}, {"candidates": 4}, {"method": "masked-lm"}]
)
def test_what_another_request_left_is_not_mixed_in(other, model, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    partial = left_over(model, out, monkeypatch)
    before = partial.read_bytes()
    with pytest.raises(OutputExistsError, match="other options, texts or weights. Repeat that run's command"):
        augment(ROWS, model, out, AugmentConfig(**other), progress=False)
    assert partial.read_bytes() == before
    assert augment(ROWS, model, out, AugmentConfig(**other), overwrite=True, progress=False).rows_before == 0


def test_other_texts_or_another_seed_are_another_request(model, tmp_path, monkeypatch):
    left_over(model, tmp_path / "out.jsonl", monkeypatch)
    for rows, seed in ((ROWS[:-1], 42), (ROWS, 43)):
        with pytest.raises(OutputExistsError):
            augment(rows, model, tmp_path / "out.jsonl", seed=seed, progress=False)


def test_an_existing_file_survives_until_the_new_one_is_complete(model, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    with pytest.raises(OutputExistsError, match="exists already. Choose another --output-file, or pass --overwrite"):
        augment(ROWS, model, out, progress=False)
    with monkeypatch.context() as patch:
        stop_after(patch, 1, RuntimeError)
        with pytest.raises(RuntimeError):
            augment(ROWS, model, out, overwrite=True, progress=False)
    assert out.read_text() == "old"
    assert augment(ROWS, model, out, overwrite=True, progress=False).rows_before == CHUNK
    assert len(lines(out)) > len(ROWS)


def test_places_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(OutputExistsError, match="is not a folder that can be written to"):
        augment(ROWS, model, tmp_path / "file" / "out.jsonl", progress=False)
    with pytest.raises(OutputExistsError, match="is a folder"):
        augment(ROWS, model, tmp_path / "folder.jsonl", overwrite=True, progress=False)


def test_a_disk_without_room_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 1000}))
    with pytest.raises(DiskSpaceError):
        augment(ROWS, model, tmp_path / "out.jsonl", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_the_room_is_about_what_is_needed(model, tmp_path):
    config = AugmentConfig(replace_probability=0.9)
    augment(ROWS, model, tmp_path / "out.jsonl", config, progress=False)
    assert 0.9 < output_bytes(ROWS, config) / (2 * (tmp_path / "out.jsonl").stat().st_size) < 1.5


def test_the_bar_goes_to_stderr(model, tmp_path, capsys):
    augment(ROWS, model, tmp_path / "out.jsonl")
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{len(ROWS)}/{len(ROWS)}" in said.err


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"copies": 0}, "copies: input should be greater than or equal to 1"),
        ({"replace_probability": 0}, "replace_probability: input should be greater than 0"),
        ({"replace_probability": 1.1}, "replace_probability: input should be less than or equal to 1"),
        ({"candidates": 0}, "candidates: input should be greater than or equal to 1"),
        ({"method": "glove"}, "method: input should be 'embedding' or 'masked-lm', got 'glove'"),
    ],
)
def test_options_out_of_range(options, fault):
    with pytest.raises(RequestError, match=fault):
        parse(AugmentConfig, options)
