"""Question answering: windows, positions, padding, the answer that a model means, and every fault of the data."""

import json
import random
from copy import deepcopy

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from transformers.modeling_outputs import QuestionAnsweringModelOutput as Output

from hfcompress.data import DataConfig, encode, load_data, load_validation
from hfcompress.errors import DataError
from hfcompress.measure.quality import predict, score
from hfcompress.tasks import TASKS, task_of_class
from hfcompress.tasks.question_answering import UNKNOWN
from tests.tasks.runs import first_losses, fresh, train
from tests.tiny import BAD, GOOD, OTHER, tiny_head, tiny_tokenizer

TASK = TASKS["question-answering"]


def record(question, context, *answers):
    starts = [context.index(text) for text in answers]
    return {"question": question, "context": context, "answers": {"text": list(answers), "answer_start": starts}}


def questions(count, seed=0, unanswerable=False):
    """A good word with a bad one behind it is the answer; it stands somewhere among others, or not at all."""
    choose = random.Random(seed)
    records = []
    for index in range(count):
        words = choose.choices(OTHER, k=choose.randint(3, 12))
        answers = [] if unanswerable and index % 3 == 0 else [f"{choose.choice(GOOD)} {choose.choice(BAD)}"]
        words[(place := choose.randrange(len(words))) : place] = answers
        records.append(record("the " * choose.randint(1, 3), " ".join(words), *answers))
    return records


def write(folder, records, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def load(path, **config):
    return load_data(DataConfig(path, **{"validation": 2, **config}), 0, TASK)


def refusal(path, **config):
    with pytest.raises(DataError) as error:
        load(path, **config)
    return str(error.value)


def rows_of(*records):
    renamed = [{"text": r["question"], "text_pair": r["context"], "labels": r["answers"]} for r in records]
    return TASK.encode_labels({"validation": Dataset.from_list(renamed)}, None).parts["validation"]


def test_answers_are_read_as_squad_writes_them(tmp_path):
    data = load(write(tmp_path, questions(12, unanswerable=True)))
    assert data.train.column_names == ["text", "text_pair", "labels"]
    assert (data.label_names, data.problem_type, data.overlap) == ((), None, 0)
    assert (len(data.train), len(data.validation)) == (10, 2)
    golds = [*TASK.references(data.train), *TASK.references(data.validation)]
    assert sum(gold == () for gold in golds) == 4
    assert all(len(gold) == 1 for gold in golds if gold)


def test_other_keys_of_answers_are_left_out(tmp_path):
    records = [{**r, "answers": {**r["answers"], "answer_end": [5]}, "id": "x"} for r in questions(6)]
    assert set(load(write(tmp_path, records)).train["labels"][0]) == {"text", "answer_start"}


def with_answers(*answers):
    return [{"question": "q", "context": "the film is fine", "answers": answer} for answer in answers]


GIVEN = {"text": ["film"], "answer_start": [4]}


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (
            [{"question": "q", "context": "c"}],
            ["no column for the labels that I know. Its columns: question, context."],
        ),
        ([{"question": "q", "answers": GIVEN}], ["no column for the text_pair that I know."]),
        (
            [{**with_answers(GIVEN)[0], "context": ""}],
            ["1 of the 1 training rows have no context (rows 0, from 0; the"],
        ),
        ([{**with_answers(GIVEN)[0], "question": " "}], ["1 of the 1 training rows have no question"]),
        (
            with_answers({"text": ["film"]}, {"text": ["film"]}, {"text": ["film"]}, {"text": ["film"]}),
            ["no answers as SQuAD writes them (the first is row 0, from 0: {'text': ['film']}). Write {\"text\""] * 2,
        ),
        (
            with_answers("film", "film", "film", "fine"),
            ["2 training rows have no answers as SQuAD", "2 validation rows"],
        ),
        (
            with_answers(*[{"text": ["film", "fine"], "answer_start": [4]}] * 4),
            ["2 training rows have no answers as SQuAD", "2 validation rows"],
        ),
        (
            with_answers(*[{"text": ["film"], "answer_start": [5]}] * 4),
            [
                "labels: 2 training rows have an answer that does not stand at its answer_start (the first is row 0, "
                "from 0: 'film' at character 5, where 'ilm ' stands). Correct answer_start, counted in characters from",
                "labels: 2 validation rows have an answer that does not stand",
            ],
        ),
        (
            with_answers(*[{"text": ["film"], "answer_start": [-12]}] * 3),
            ["film' at character -12, where ''", "2 valid"],
        ),
        (with_answers(*[{"text": [""], "answer_start": [0]}] * 3), ["'' at character 0", "2 validation"]),
        (
            with_answers(*[{"text": ["film", "fine"], "answer_start": [4, 3]}] * 3),
            ["'fine' at character 3", "2 validation"],
        ),
        (with_answers(*[{"text": [], "answer_start": []}] * 3), ["no training row has an answer: there is nothing"]),
    ],
)
def test_answers_that_cannot_be_learned_are_refused(tmp_path, records, says):
    lines = refusal(write(tmp_path, records)).splitlines()
    assert len(lines) == len(says)
    assert all(words in line for words, line in zip(says, lines, strict=True))


def test_to_evaluate_no_answer_need_be_there(tmp_path):
    path = write(tmp_path, with_answers({"text": [], "answer_start": []}))
    assert list(TASK.references(load_validation(DataConfig(path), (), 0, TASK).validation)) == [()]


def test_positions_are_the_first_and_last_token_of_the_first_answer(tokenizer):
    rows = rows_of(record("the plot", "a film is fine", "film is", "fine"), record("the", "a film"))
    encoded = encode(rows, TASK, tokenizer, None)
    assert (
        encoded[0]["input_ids"] == tokenizer("the plot", "a film is fine")["input_ids"]
    )  # [CLS] q q [SEP] a film is …
    assert (encoded["start_positions"][:], encoded["end_positions"][:]) == ([5, 0], [6, 0])
    assert encoded["row"][:] == [0, 1]
    assert encoded[0]["offset_mapping"] == [[-1, -1]] * 4 + [[0, 1], [2, 6], [7, 9], [10, 14], [-1, -1]]


def test_long_contexts_are_read_in_windows_that_overlap(tokenizer):
    context = " ".join(OTHER)  # the film story is a and with its very cast end plot
    rows = rows_of(
        record("fine", context, "story is"), record("fine", context, "end"), record("fine", "a film", "film")
    )
    encoded = encode(rows, TASK, tokenizer, 10)
    # 10 tokens: 3 special ones, 1 of the question, 6 of the context, of which 2 again in the next window.
    windows = [[token for token in row["offset_mapping"] if token[0] >= 0] for row in encoded]
    assert encoded["row"][:] == [0, 0, 0, 1, 1, 1, 2]
    assert [len(window) for window in windows] == [6, 6, 4, 6, 6, 4, 2]
    texts = [[context[begin:end] for begin, end in window] for window in windows[:3]]
    assert texts == [OTHER[:6], OTHER[4:10], OTHER[8:]]
    assert encoded["start_positions"][:] == [5, 0, 0, 0, 0, 5, 4]
    assert encoded["end_positions"][:] == [6, 0, 0, 0, 0, 5, 4]


@pytest.mark.parametrize("length", [5, 6, 7, 9, 20, 64])
def test_no_length_loses_a_part_of_the_context(tokenizer, length):
    context = " ".join(OTHER * 3)
    encoded = encode(rows_of(record("the film " * 60, context)), TASK, tokenizer, length)
    seen = {tuple(offset) for row in encoded["offset_mapping"] for offset in row} - {(-1, -1)}
    assert "".join(context[begin:end] for begin, end in sorted(seen)) == context.replace(" ", "")
    assert max(map(len, encoded["input_ids"])) <= length


def test_a_length_without_room_is_refused(tokenizer):
    with pytest.raises(
        DataError, match=r"^max_length: 4 tokens leave no room for a question and a context\. Give more"
    ):
        encode(rows_of(record("q", "a film", "film")), TASK, tokenizer, 4)


def test_without_a_limit_there_is_one_window():
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = int(1e30)
    encoded = encode(rows_of(record("the", " ".join(OTHER * 20), "plot")), TASK, tokenizer, None)
    assert (len(encoded), encoded["start_positions"][0]) == (1, 3 + OTHER.index("plot"))


def test_answers_that_no_window_holds_are_counted(tokenizer, caplog):
    context = " ".join(OTHER)
    long, short = record("fine", context, " ".join(OTHER[2:11])), record("fine", context, "cast")
    encoded = encode(rows_of(short, long, short), TASK, tokenizer, 10)
    assert "1 of 3 answers are cut in every window of their context (the first is row 1, from 0)" in caplog.text
    assert [p for p, row in zip(encoded["start_positions"], encoded["row"], strict=True) if row == 1] == [0, 0, 0]
    with pytest.raises(DataError, match=r"^max_length: no window holds any of the 1 answers whole\. Give more"):
        encode(rows_of(long), TASK, tokenizer, 10)


def test_rows_without_answers_are_ignored_by_the_models_loss(tokenizer):
    labelled = rows_of(record("the", "a film", "film"), record("the", "a film"))
    unlabelled = labelled.remove_columns("labels")
    unlabelled = unlabelled.add_column("labels", TASK.unknown_labels(unlabelled, labelled["labels"][0]))
    encoded = encode(concatenate_datasets([labelled, unlabelled.cast(labelled.features)]), TASK, tokenizer, None)
    assert encoded["start_positions"][:] == encoded["end_positions"][:] == [4, 0, UNKNOWN, UNKNOWN]
    batch = TASK.collator(tokenizer)(list(encoded))
    assert (TASK.count_rows(batch).item(), TASK.count_labels(batch).item()) == (8, 2)
    for family in ("bert", "distilbert", "roberta", "gpt2", "t5", "bart"):
        model = tiny_head(family, "ForQuestionAnswering")
        takes = {name: value for name, value in batch.items() if family == "bert" or name != "token_type_ids"}
        known = {name: value[:2] for name, value in takes.items()}
        torch.testing.assert_close(model(**takes).loss, model(**known).loss)


def test_batches_without_answers_have_no_labels(tokenizer):
    encoded = encode(rows_of(record("the", "a film")).remove_columns("labels"), TASK, tokenizer, None)
    batch = TASK.collator(tokenizer)(list(encoded))
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask"}
    assert TASK.count_labels(batch).item() == 0
    assert TASK.rows(Output(start_logits=torch.zeros(1, 6), end_logits=torch.zeros(1, 6)), batch)[1] is None


@pytest.mark.parametrize("side", ["right", "left"])
def test_rows_are_starts_and_ends_and_padding_adds_nothing(side):
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = side
    encoded = encode(
        rows_of(record("the", "a film is fine", "fine"), record("the", "film", "film")), TASK, tokenizer, None
    )
    batch = TASK.collator(tokenizer)(list(encoded))
    assert batch["start_positions"].tolist() == [6, {"right": 3, "left": 6}[side]]
    start, end = torch.randn(2, 2, 8)
    logits, labels = TASK.rows(Output(start_logits=start, end_logits=end), batch)
    assert logits.shape == (4, 8)
    assert labels.tolist() == [*batch["start_positions"].tolist(), *batch["end_positions"].tolist()]
    kept = batch["attention_mask"][1].bool()
    assert torch.equal(logits[[0, 2]], torch.stack([start[0], end[0]]))
    assert torch.equal(logits[1][kept], start[1][kept])
    assert set(logits[1][~kept].tolist()) == set(logits[3][~kept].tolist()) == {-1e4}
    for half in (torch.float16, torch.bfloat16):
        values, _ = TASK.rows(Output(start_logits=start.to(half), end_logits=end.to(half)), batch)
        assert values.dtype == half
        assert values.isfinite().all()
    teacher, _ = TASK.rows(Output(start_logits=torch.randn(2, 8), end_logits=torch.randn(2, 8)), batch)
    kl = torch.nn.functional.kl_div(logits.log_softmax(-1), teacher.softmax(-1), reduction="none").sum(-1)
    alone = torch.nn.functional.kl_div(logits[1][kept].log_softmax(-1), teacher[1][kept].softmax(-1), reduction="sum")
    torch.testing.assert_close(kl[1], alone)


def answers_for(encoded, best):
    """Logits that are 0, and high where asked: `{feature: (start, end, height)}`."""
    found = [np.zeros((2, len(row["input_ids"])), dtype=np.float32) for row in encoded]
    for feature, (start, end, height) in best.items():
        found[feature][0, start] = found[feature][1, end] = height
    return found


def test_the_answer_is_the_best_span_of_all_windows(tokenizer):
    context = " ".join(OTHER)
    rows = rows_of(record("fine", context, "end"), record("fine", "a film", "film"))
    encoded = encode(rows, TASK, tokenizer, 10)
    found = TASK.finish(answers_for(encoded, {0: (4, 5, 1), 2: (4, 6, 2), 3: (4, 4, 1)}), encoded, rows, tokenizer)
    assert list(found) == ["cast end plot", "film"]
    assert score(found, TASK.references(rows), TASK).metrics == {"exact_match": 0.5, "f1": (1 / 2 + 1) / 2}


def test_no_answer_must_score_higher_in_every_window(tokenizer):
    context = " ".join(OTHER)
    rows = rows_of(record("fine", context), record("fine", context, "end"))
    encoded = encode(rows, TASK, tokenizer, 10)
    nothing = {0: (0, 0, 3), 1: (0, 0, 3), 3: (0, 0, 3), 4: (0, 0, 3)}
    found = TASK.finish(answers_for(encoded, {**nothing, 2: (0, 0, 3)}), encoded, rows, tokenizer)
    assert list(found) == ["", "the"]  # of the second row, the third window says nothing of the kind
    assert TASK.finish(answers_for(encoded, {}), encoded, rows, tokenizer)[0] == "the"  # a tie: not above the threshold


def test_where_every_question_has_an_answer_one_is_given(tokenizer):
    rows = rows_of(record("fine", "a film", "film"))
    encoded = encode(rows, TASK, tokenizer, None)
    assert list(TASK.finish(answers_for(encoded, {0: (0, 0, 9)}), encoded, rows, tokenizer)) == ["a"]


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "mpnet", "gpt2"])
def test_answers_do_not_depend_on_the_padding(family):
    model, tokenizer = tiny_head(family, "ForQuestionAnswering"), tiny_tokenizer()
    assert task_of_class(type(model).__name__) is TASK
    rows = rows_of(*questions(9))
    found = [predict(model, tokenizer, rows, TASK, 12, batch_size=size) for size in (1, 4, 64)]
    assert list(found[0]) == list(found[1]) == list(found[2])
    assert all(answer in context for answer, context in zip(found[0], rows["text_pair"], strict=True))


def test_intervals_are_those_of_the_rows_f1():
    references = np.empty(3, dtype=object)
    references[:] = [("film",), ("plot", "the cast"), ()]
    answers = np.array(["a fine film", "cast", "end"])
    assert TASK.row_scores(answers, references).tolist() == pytest.approx([2 / 3, 1, 0])
    quality = score(answers, references, TASK)
    assert (quality.main, quality.metrics) == ("f1", pytest.approx({"exact_match": 1 / 3, "f1": 5 / 9}))
    assert quality.interval[0] <= quality.value <= quality.interval[1]


@pytest.mark.parametrize("unanswerable", [False, True])
def test_a_model_learns_every_answer_from_the_encoded_rows_and_teaches_it(tmp_path, unanswerable):
    data = load(write(tmp_path, questions(90, unanswerable=unanswerable)), validation=26)
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    teacher = fresh(TASK, 2)
    train(teacher, TASK, encode(data.train, TASK, tokenizer, 64), tmp_path, num_train_epochs=8)
    references = TASK.references(data.validation)
    found = predict(teacher, tokenizer, data.validation, TASK, 64, batch_size=8)
    assert score(found, references, TASK).metrics == {"exact_match": 1.0, "f1": 1.0}

    texts = data.train.remove_columns("labels")  # the student learns from the teacher alone
    texts = texts.add_column("labels", TASK.unknown_labels(texts, None))
    student = fresh(TASK, 1)
    losses = {"kl": {"temperature": 2}, "task": 1.0}
    trainer = train(
        student, TASK, encode(texts, TASK, tokenizer, 64), tmp_path, teacher, num_train_epochs=12, losses=losses
    )
    assert first_losses(trainer)["loss_task"] == 0
    found = predict(student, tokenizer, data.validation, TASK, 64, batch_size=8)
    assert score(found, references, TASK).metrics == {"exact_match": 1.0, "f1": 1.0}


def test_the_first_loss_is_the_one_computed_by_hand(tmp_path):
    tokenizer = tiny_tokenizer()
    labelled = rows_of(*questions(6, unanswerable=True))
    unknown = labelled.remove_columns("labels").select(range(2))
    unknown = unknown.add_column("labels", TASK.unknown_labels(unknown, None)).cast(labelled.features)
    encoded = encode(concatenate_datasets([labelled, unknown]), TASK, tokenizer, None)
    assert len({len(row) for row in encoded["input_ids"]}) > 1
    torch.manual_seed(0)
    teacher, student = tiny_head("bert", "ForQuestionAnswering"), fresh(TASK, 1)
    divergences = []
    for row in encoded:  # one at a time, so that nothing is padded
        inputs = {name: torch.tensor([row[name]]) for name in ("input_ids", "token_type_ids", "attention_mask")}
        with torch.no_grad():
            ours, theirs = student(**inputs), teacher(**inputs)
        for end in ("start", "end"):
            own, other = (found[f"{end}_logits"].log_softmax(-1)[0] for found in (ours, theirs))
            divergences.append((other.exp() * (other - own)).sum().item())
    assert len(divergences) == 16
    # transformers' own loss lets padding stand for an answer: it is that of the whole batch.
    own_loss = student(**TASK.collator(tokenizer)(list(encoded))).loss.item()
    losses = {"kl": {"weight": 1, "temperature": 1}, "task": 1}
    for steps in (1, 4):
        trainer = train(
            deepcopy(student), TASK, encoded, tmp_path, teacher, losses=losses, max_steps=1,
            per_device_train_batch_size=8 // steps, gradient_accumulation_steps=steps,
        )  # fmt: skip
        found = first_losses(trainer)
        assert found["loss_kl"] == pytest.approx(np.mean(divergences), rel=1e-3)
        if steps == 1:
            assert found["loss_task"] == pytest.approx(own_loss, rel=1e-3)
