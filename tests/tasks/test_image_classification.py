"""Image classification: pixels by hand, images of every mode and from every place, and those that do not open."""

import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from hfcompress.data import DataConfig, fingerprint, load_data, load_validation
from hfcompress.errors import DataError
from hfcompress.measure.quality import predict, score
from hfcompress.modeling.load import load_image_processor
from hfcompress.tasks import TASKS
from hfcompress.tasks.base import LabelOptions
from hfcompress.tasks.images import to_array
from tests.tiny import tiny_head

TASK = TASKS["image-classification"]


def processor_for(folder, channels=3, size=16):
    """An image processor that only resizes and maps 0…255 to -1…1."""
    model = tiny_head("vit", "ForImageClassification")
    model.save_pretrained(folder)
    half = [0.5] * channels
    settings = {"image_processor_type": "ViTImageProcessor", "size": {"height": size, "width": size}, "resample": 0}
    settings |= {"do_resize": True, "do_rescale": True, "do_normalize": True, "image_mean": half, "image_std": half}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return load_image_processor(str(folder))


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    return processor_for(tmp_path_factory.mktemp("vit"))


def picture(value, mode="L", size=(8, 8)):
    return Image.new(mode, size, value)


def save_classes(folder, counts=(6, 6)):
    """A folder a class: dark and light pictures."""
    for name, value, count in zip(("dark", "light"), (40, 210), counts, strict=True):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            picture(value + index).save(folder / name / f"{index}.png")
    return folder


def test_pixels_by_hand(processor):
    rows = Dataset.from_dict({"image": [picture((255, 0, 51), "RGB")], "labels": [1]})
    batch = TASK.collator(processor)(list(TASK.encode(rows, processor, None)))
    assert batch["pixel_values"].shape == (1, 3, 16, 16)
    assert batch["pixel_values"].dtype == torch.float32
    assert batch["pixel_values"][0, :, 5, 9].tolist() == pytest.approx([1.0, -1.0, 51 / 255 * 2 - 1])
    assert batch["labels"].tolist() == [1]


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (picture(60), [60] * 3),
        (picture(1, "1"), [255] * 3),
        (picture((1, 2, 3, 128), "RGBA"), [1, 2, 3]),
        (picture((9, 77), "LA"), [9] * 3),
        (picture((0, 255, 255, 0), "CMYK"), [255, 0, 0]),
        (Image.fromarray(np.full((8, 8), 60 * 256 + 7, dtype=np.uint16)), [60] * 3),
        (picture((1, 2, 3), "RGB").quantize(4), [1, 2, 3]),
    ],
    ids=["grey", "black and white", "with alpha", "grey with alpha", "cmyk", "16 bits", "palette"],
)
def test_images_of_every_mode_become_colour(image, colour):
    array = to_array(image, 3)
    assert (array.shape, array.dtype) == ((8, 8, 3), np.uint8)
    assert array[4, 4].tolist() == colour


def test_a_processor_of_one_channel_keeps_grey(tmp_path):
    batch = TASK.collator(processor_for(tmp_path, channels=1))([{"image": picture(51)}])
    assert batch["pixel_values"].shape == (1, 1, 16, 16)
    assert batch["pixel_values"].unique().tolist() == pytest.approx([51 / 255 * 2 - 1])
    assert set(batch) == {"pixel_values"}


@pytest.mark.parametrize("size", [(8, 3), (3, 8), (1, 1), (3, 3), (200, 2)])
def test_the_channels_of_a_small_image_are_not_mistaken_for_its_height(processor, size):
    batch = TASK.collator(processor)([{"image": picture((255, 0, 51), "RGB", size)}])
    assert batch["pixel_values"][0, :, 0, 0].tolist() == pytest.approx([1.0, -1.0, -0.6])


def test_a_folder_of_images_is_read_and_predicted_in_its_order(tmp_path, processor):
    data = load_data(DataConfig(str(save_classes(tmp_path / "images")), validation=4), 0, TASK)
    assert (len(data.train), len(data.validation), data.label_names) == (8, 4, ("dark", "light"))
    assert sorted(data.validation["labels"]) == [0, 0, 1, 1]  # as many of each class
    model = tiny_head("vit", "ForImageClassification")
    answers = predict(model, processor, data.validation, TASK, None, batch_size=3)
    with torch.no_grad():
        expected = [model(**TASK.collator(processor)([{"image": row["image"]}])).logits[0] for row in data.validation]
    assert answers == pytest.approx(np.stack(expected), abs=1e-5)
    found = score(answers, TASK.references(data.validation), TASK)
    right = (answers.argmax(-1) == np.array(data.validation["labels"])).mean()
    assert (found.main, found.value) == ("accuracy", right)


def test_paths_in_a_table_are_relative_to_the_table(tmp_path):
    save_classes(tmp_path / "images", (2, 2))
    for name in ("train.csv", "validation.csv"):
        lines = [f"images/{label}/{index}.png,{label}" for label in ("dark", "light") for index in range(2)]
        (tmp_path / name).write_text("\n".join(["picture,label", *lines]))
    config = DataConfig(str(tmp_path / "train.csv"), validation=str(tmp_path / "validation.csv"))
    data = load_data(config, 0, TASK)
    assert [image.getpixel((0, 0)) for image in data.train["image"]] == [40, 41, 210, 211]
    assert [image.getpixel((0, 0)) for image in data.validation["image"]] == [40, 41, 210, 211]
    assert data.train.column_names[0] == "image"


def test_what_identifies_the_data_is_what_the_images_show(tmp_path):
    one, other = save_classes(tmp_path / "one", (1, 1)), save_classes(tmp_path / "other", (1, 1))
    assert fingerprint("", rows_of(one)) == fingerprint("", rows_of(other))
    picture(41).save(other / "dark" / "0.png")
    assert fingerprint("", rows_of(one)) != fingerprint("", rows_of(other))


def rows_of(folder):
    return load_validation(DataConfig(str(folder)), ("dark", "light"), 0, TASK).validation


def broken_table(folder):
    """Six rows: three images, one cut short, one that is text, one that is not there, and one without a name."""
    save_classes(folder / "images", (2, 1))
    sound = (folder / "images" / "light" / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(sound[:-30])
    (folder / "text.png").write_text("no image")
    names = ["images/dark/0.png", "cut.png", "text.png", "absent.png", "", "images/dark/1.png", "images/light/0.png"]
    labels = ["dark"] * 6 + ["light"]
    lines = [f"{name},{label}" for name, label in zip(names, labels, strict=True)]
    (folder / "rows.csv").write_text("\n".join(["image,label", *lines]))
    return str(folder / "rows.csv")


def test_images_that_do_not_open_are_counted_and_the_first_is_named(tmp_path):
    with pytest.raises(DataError) as error:
        load_validation(DataConfig(broken_table(tmp_path)), ("dark", "light"), 0, TASK)
    says = f"4 of the 7 validation rows have no image that opens (rows 1, 2, 3, 4, from 0; the first has '{tmp_path}"
    assert says in str(error.value)
    assert str(error.value).endswith("cut.png'). Fill them, or leave them out with --drop-missing.")


def test_images_that_do_not_open_can_be_left_out(tmp_path):
    config = DataConfig(broken_table(tmp_path), drop_missing=True)
    rows = load_validation(config, ("dark", "light"), 0, TASK).validation
    assert [image.getpixel((0, 0)) for image in rows["image"]] == [40, 41, 210]
    assert rows["labels"] == [0, 0, 1]


def test_missing_images_of_an_image_column_are_found():
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["a", "b"])})
    rows = Dataset.from_dict({"image": [picture(1), None], "label": [0, 1]}, features=features)
    column = TASK.columns[0]
    assert [column.is_missing(image) for image in rows["image"]] == [False, True]
    assert column.is_missing("a text")


@pytest.mark.parametrize(("labels", "kind"), [([[0], [1, 0]], "lists"), ([0.5, 1.0], "numbers")])
def test_several_classes_or_numbers_are_refused(labels, kind):
    rows = Dataset.from_dict({"labels": labels})
    with pytest.raises(DataError, match=f"the labels of the training rows are {kind}: an image has one class"):
        TASK.encode_labels({"training": rows, "validation": rows}, LabelOptions())


def test_an_image_is_turned_as_its_camera_says(tmp_path, processor):
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "rows.csv").write_text("image,label\nturned.jpg,a\n")
    rows = load_validation(DataConfig(str(tmp_path / "rows.csv")), ("a",), 0, TASK).validation
    assert rows[0]["image"].size == (4, 8)


@pytest.mark.parametrize("size", [48, (32, 48)])
def test_example_inputs_have_the_models_size_and_channels(size):
    config = tiny_head("vit", "ForImageClassification").config
    config.image_size, config.num_channels = size, 1
    shape = TASK.example_inputs(config, 2, 128)["pixel_values"].shape
    assert tuple(shape) == (2, 1, *((size, size) if isinstance(size, int) else size))
