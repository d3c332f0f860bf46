"""`cache_teacher`: one call, and a folder that the Trainer takes in the teacher's place."""

import pytest
import torch
from transformers import DataCollatorWithPadding

from hfcompress.errors import TeacherError
from hfcompress.training.cached_teacher import CachedTeacher
from hfcompress.training.caching import cache_teacher
from tests.tiny import tiny_model
from tests.training.caches import files, teacher_model
from tests.training.runs import TOKENIZER, distance, learned, rows, same, small_student
from tests.training.runs import build as trainer_of

LOSSES = {"kl": 0.5, "hidden_mse": 0.2, "task": 0.5}


def test_the_trainer_takes_the_folder_in_the_teachers_place(tmp_path):
    folder = cache_teacher(teacher_model(), rows(), tmp_path / "cache", processor=TOKENIZER, losses=LOSSES)
    options = {"losses": LOSSES, "optim": "sgd", "learning_rate": 0.05}
    online = trainer_of(small_student(), tmp_path / "online", teacher_model(), **options)
    online.train()
    data = rows().map(lambda row: row)
    assert "cache_row" not in data.column_names
    for source in (folder, str(folder)):
        offline = trainer_of(small_student(), tmp_path / "offline", source, data=data, **options)
        offline.train()
        assert distance(learned(online), learned(offline)) < 2e-5


def test_students_of_any_depth_and_shuffled_parts_of_the_data(tmp_path):
    folder = cache_teacher(teacher_model(), rows(), tmp_path / "cache", processor=TOKENIZER, losses=LOSSES)
    part = rows().shuffle(seed=3).select(range(16))
    for layers in (1, 3):
        trainer = trainer_of(tiny_model(layers=layers), tmp_path / "out", folder, data=part, losses=LOSSES)
        before = learned(trainer)
        trainer.train()
        assert not same(learned(trainer), before)


def test_a_teacher_that_is_named_brings_its_tokenizer(teacher_dir, tmp_path):
    named = cache_teacher(str(teacher_dir), rows(8), tmp_path / "named")
    given = cache_teacher(str(teacher_dir), rows(8), tmp_path / "given", collator=DataCollatorWithPadding(TOKENIZER))
    values = [
        CachedTeacher(folder, small_student().config).ask({"cache_row": torch.arange(8)}).rows.values
        for folder in (named, given)
    ]
    assert torch.equal(*values)


def test_called_again_it_leaves_the_cache_as_it_is(tmp_path):
    folder = cache_teacher(teacher_model(), rows(8), tmp_path / "cache", processor=TOKENIZER)
    before = files(folder)
    assert files(cache_teacher(teacher_model(), rows(8), folder, processor=TOKENIZER)) == before
    with pytest.raises(TeacherError, match="was built from another model"):
        cache_teacher(teacher_model(seed=3), rows(8), folder, processor=TOKENIZER)


def test_losses_that_the_cache_cannot_serve_are_refused_by_the_trainer(tmp_path):
    folder = cache_teacher(teacher_model(), rows(8), tmp_path / "cache", processor=TOKENIZER)
    with pytest.raises(TeacherError, match="hidden_mse reads hidden states 0, 2, 4 that were not cached"):
        trainer_of(small_student(), tmp_path, folder, data=rows(8), losses=LOSSES)
    with pytest.raises(TeacherError, match="minilm read attention probabilities"):
        trainer_of(small_student(), tmp_path, folder, data=rows(8), losses={"minilm": 1})


def test_what_cannot_be_cached_is_refused(tmp_path):
    with pytest.raises(TeacherError, match="its head was never trained"):
        cache_teacher(tiny_model(trained_head=False), rows(8), tmp_path / "cache", processor=TOKENIZER)
    with pytest.raises(TeacherError, match="collator: which batches the teacher reads is not known"):
        cache_teacher(teacher_model(), rows(8), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
