"""Students by name: cuts, presets and folders; pretrained, random or started from the teacher; with its labels."""

import pytest
import torch
import transformers

from hfcompress.distillation.students import build_student, label_settings, student_config
from hfcompress.errors import ModelError, NetworkError, RequestError
from hfcompress.modeling.families import stacks_of
from hfcompress.modeling.presets import PRESETS, preset_config, reads_images
from hfcompress.tasks import TASKS
from tests.tiny import HEADS, tiny_config, tiny_head, tiny_inputs, tiny_model, tiny_tokenizer

TASK = TASKS["text-classification"]
NAMED = {"id2label": {0: "bad", 1: "good", 2: "odd"}, "num_labels": 3}
TOKENS = [name for name in PRESETS if not reads_images(preset_config(name))]
IMAGES = sorted(set(PRESETS) - set(TOKENS))


@pytest.fixture
def teacher():
    return tiny_model("bert", layers=4, max_position_embeddings=24, type_vocab_size=3, **NAMED)


@pytest.fixture(autouse=True)
def small_presets(monkeypatch):
    """The largest presets with fewer layers: their sizes are tested elsewhere."""
    for name in ("distilbert", "mobilebert", "squeezebert"):
        family, sizes = PRESETS[name]
        depth = "n_layers" if name == "distilbert" else "num_hidden_layers"
        monkeypatch.setitem(PRESETS, name, (family, {**sizes, depth: 1}))


@pytest.mark.parametrize("init", ["random", "teacher"])
@pytest.mark.parametrize("name", TOKENS)
def test_a_preset_reads_the_teachers_tokens_and_gives_its_labels(name, init, teacher, tmp_path):
    tokenizer = tiny_tokenizer()
    student, found = build_student(name, teacher, tokenizer, TASK, init=init)
    assert found is tokenizer
    assert not student.training
    config = student.config
    assert config.to_dict() == student_config(name, teacher.config, init).to_dict() | {
        key: config.to_dict()[key]
        for key in ("architectures", "dtype", "_attn_implementation")
        if key in config.to_dict()
    }
    assert (config.vocab_size, config.max_position_embeddings, config.pad_token_id) == (64, 24, 0)
    assert getattr(config, "type_vocab_size", 3) == 3
    assert (config.num_labels, config.id2label, config.label2id) == (
        3,
        NAMED["id2label"],
        {"bad": 0, "good": 1, "odd": 2},
    )
    student.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        ours, again = (model(**tiny_inputs(model)).logits for model in (student, loaded))
    assert ours.shape == (3, 3)
    assert torch.allclose(ours, again, atol=1e-6)


def test_random_weights_are_the_seeds_and_not_the_teachers(teacher):
    def words(seed, init):
        torch.manual_seed(seed)
        student, _ = build_student("bert-tiny", teacher, None, TASK, init=init)
        return student.get_input_embeddings().weight

    assert torch.equal(words(1, "random"), words(1, "random"))
    assert not torch.equal(words(1, "random"), words(2, "random"))
    assert torch.equal(words(1, "teacher"), words(2, "teacher"))
    assert torch.equal(words(1, "teacher")[:, :32], teacher.get_input_embeddings().weight)


@pytest.mark.parametrize("init", ["random", "teacher"])
def test_a_folders_config_is_enough(init, teacher, tmp_path):
    tiny_config("bert", layers=2, vocab_size=99).save_pretrained(tmp_path)
    student, _ = build_student(str(tmp_path), teacher, None, TASK, init=init)
    assert (student.config.vocab_size, student.config.num_hidden_layers) == (64, 2)
    copied = torch.equal(
        student.bert.encoder.layer[1].output.dense.weight, teacher.bert.encoder.layer[3].output.dense.weight
    )
    assert copied == (init == "teacher")
    assert torch.equal(student.classifier.weight, teacher.classifier.weight) == (init == "teacher")


@pytest.mark.parametrize("init", ["random", "teacher"])
@pytest.mark.parametrize("name", IMAGES)
def test_a_preset_for_images_takes_the_teachers(name, init):
    teacher = tiny_head("vit", "ForImageClassification", image_size=32, num_channels=1, **NAMED)
    processor = object()
    student, found = build_student(name, teacher, processor, TASKS["image-classification"], init=init)
    assert found is processor
    assert student.config.id2label == NAMED["id2label"]
    with torch.no_grad():
        assert student(pixel_values=torch.rand(2, 1, 32, 32)).logits.shape == (2, 3)


def test_a_folder_of_a_pretrained_student_keeps_its_own_tokenizer(teacher, tmp_path):
    tiny_model("distilbert", layers=1).base_model.save_pretrained(tmp_path)
    tiny_tokenizer(extra=["zebra"]).save_pretrained(tmp_path)
    student, tokenizer = build_student(str(tmp_path), teacher, tiny_tokenizer(), TASK)
    assert "zebra" in tokenizer.get_vocab()
    assert student.config.id2label == NAMED["id2label"]


def test_a_pretrained_student_for_images_uses_the_teachers_processor(tmp_path):
    teacher = tiny_head("vit", "ForImageClassification", **NAMED)
    tiny_head("resnet").save_pretrained(tmp_path)
    processor = object()
    student, found = build_student(str(tmp_path), teacher, processor, TASKS["image-classification"])
    assert found is processor
    assert student.config.num_labels == 3


@pytest.mark.parametrize("family", ["bert", "modernbert", "albert", "gpt2", "qwen2", "bart", "t5", "deberta-v2"])
def test_cuts_of_every_kind(family):
    teacher = tiny_head(family, "ForSequenceClassification", layers=4, **NAMED)
    tokenizer = tiny_tokenizer()
    student, found = build_student("cut:layers=2", teacher, tokenizer, TASK)
    assert found is tokenizer
    assert student.config.num_hidden_layers == student_config("cut:layers=2", teacher.config).num_hidden_layers == 2
    assert (student.config.id2label, type(student)) == (NAMED["id2label"], type(teacher))
    if len(HEADS[family]) and family in ("bart", "t5"):
        student, _ = build_student("cut:encoder=3;decoder=1", teacher, tokenizer, TASK)
        assert [len(layers) for _, layers in stacks_of(student)] == [3, 1]


@pytest.mark.parametrize("init", ["random", "teacher"])
@pytest.mark.parametrize(
    "build",
    [
        lambda spec, t, init: student_config(spec, t.config, init),
        lambda spec, t, init: build_student(spec, t, None, TASK, init),
    ],
)
def test_a_cut_always_comes_from_its_teacher(build, init, teacher):
    with pytest.raises(RequestError) as error:
        build("cut:layers=2", teacher, init)
    message = str(error.value)
    assert message.startswith(
        "student_init: cut:layers=2 always starts with its teacher's weights. Leave student_init out"
    )
    assert "bert-mini" in message


def test_an_unknown_initialisation_is_refused(teacher):
    with pytest.raises(
        RequestError, match="student_init: there is no initialisation 'teachr'. Did you mean 'teacher'?"
    ):
        student_config("bert-tiny", teacher.config, "teachr")


@pytest.mark.parametrize(
    "build", [lambda spec, t: student_config(spec, t.config), lambda spec, t: build_student(spec, t, None, TASK)]
)
def test_without_the_hub_a_preset_can_start_from_the_teacher(build, teacher):
    with pytest.raises(NetworkError, match="google/bert_uncased_L-2_H-128_A-2.* --student-init teacher."):
        build("bert-tiny", teacher)
    with pytest.raises(NetworkError) as error:
        build("bert-base", teacher)
    assert "--student-init" not in str(error.value)


def test_tokens_and_images_do_not_mix(teacher):
    with pytest.raises(ModelError, match="resnet-18: takes images, the teacher takes tokens."):
        student_config("resnet-18", teacher.config, "random")
    with pytest.raises(ModelError, match="bert-tiny: takes tokens, the teacher takes images."):
        student_config("bert-tiny", tiny_config("vit"), "random")


def test_a_dry_run_touches_no_weights(teacher, monkeypatch):
    monkeypatch.setattr(torch.nn.Linear, "__init__", lambda *_, **__: 1 / 0)
    assert student_config("bert-medium", teacher.config, "teacher").num_hidden_layers == 8


def test_labels_and_their_kind():
    config = tiny_config(
        "bert", num_labels=3, problem_type="multi_label_classification", **{"id2label": NAMED["id2label"]}
    )
    assert label_settings(config)["problem_type"] == "multi_label_classification"
    assert "problem_type" not in label_settings(tiny_config("bert"))


@pytest.mark.parametrize(
    ("task", "head"), [("fill-mask", "ForMaskedLM"), ("text-classification", "ForSequenceClassification")]
)
def test_the_task_decides_the_class(task, head):
    teacher = tiny_head("bert", head)
    student, _ = build_student("bert-tiny", teacher, None, TASKS[task], init="teacher")
    assert type(student).__name__ == f"Bert{head}"
