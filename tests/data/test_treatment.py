"""What becomes of an image: sizes as they are written, presets of augmentation, and data as a model knows them."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from support.planted import made_data

from scansearch.data import load_data, match_treatment, specifications
from scansearch.data.augment import PRESETS, Augment, expand_preset
from scansearch.data.treatment import ImageSize, Treatment, height_and_width
from scansearch.errors import InputError


@pytest.mark.parametrize(
    ("written", "sides"), [("96", (96, 96)), ("64x96", (64, 96)), (28, (28, 28)), ([12, 20], (12, 20))]
)
def test_sizes_are_sides_or_height_and_width(written, sides):
    assert height_and_width(TypeAdapter(ImageSize).validate_python(written)) == sides


@pytest.mark.parametrize(
    "written", ["0", "-3", "8by8", "1x", "", "64x96x3", 0, [8], [8, 8, 8], 2.5, "9" * 12]
)
def test_other_sizes_are_refused(written):
    with pytest.raises(ValidationError):
        TypeAdapter(ImageSize).validate_python(written)


def test_the_command_line_names_the_presets_that_there_are():
    assert set(specifications.PRESETS) == set(PRESETS)


def test_the_default_neither_mirrors_nor_cuts_much_away():
    assert Augment() == PRESETS["light"]
    assert not PRESETS["light"].mirrors
    assert not PRESETS["none"].mirrors
    assert PRESETS["imagenet"].mirrors
    assert PRESETS["light"].scale[0] > 0.5


def test_without_augmentation_training_images_are_those_of_evaluation():
    data = load_data("fake:20x30:3", image_size=(8, 12), augment=PRESETS["none"])
    scored = load_data("fake:20x30:3", image_size=(8, 12), augment=PRESETS["light"])
    images = [data.train.read(i)[0] for i in range(3)]
    assert all(torch.equal(image, data.train.read(i)[0]) for i, image in enumerate(images))
    assert torch.equal(data.test.read(0)[0], scored.test.read(0)[0])


def test_single_fields_of_a_preset_can_be_set():
    fields = expand_preset({"augment": "imagenet"})["augment"]
    assert Augment.model_validate(fields | {"flip": 0.0}) == PRESETS["imagenet"].model_copy(
        update={"flip": 0.0}
    )
    with pytest.raises(InputError, match="none, light, imagenet"):
        expand_preset({"augment": "heavy"})


def test_a_treatment_survives_its_file():
    treatment = load_data("fake:20x20:3", image_size=(8, 12)).treatment
    assert treatment.image_size == (8, 12)
    assert Treatment.model_validate_json(treatment.model_dump_json()) == treatment
    assert "8x12" in treatment.describe()
    assert "never mirrored" in treatment.describe()


# --- data as a trained model knows them ---


def treatment_of(data, **changes):
    return data.treatment.model_copy(update=changes)


def test_classes_go_by_name_and_not_by_position():
    data = replace(made_data(20), classes=("owl", "cat", "dog", "elk"))
    matched = match_treatment(data, treatment_of(data, classes=("ant", "cat", "dog", "elk", "owl")))
    for index in range(10):
        image, label = matched.test.read(index)
        own_image, own_label = data.test.read(index)
        assert matched.classes[label] == data.classes[own_label]
        assert torch.equal(image, own_image)


def test_a_class_that_the_model_does_not_know_is_named():
    data = replace(made_data(20), classes=("apple", "cat", "pear", "plum"))
    with pytest.raises(
        InputError, match=r"classes 'apple', 'pear', 'plum', which the model does not know \(it knows 'cat'"
    ):
        match_treatment(data, treatment_of(data, classes=("cat", "dog", "owl", "elk")))


def test_images_are_normalised_as_in_the_training():
    data = replace(load_data("digits", image_size=8))
    matched = match_treatment(data, treatment_of(data, mean=(0.1,), std=(0.5,)))
    brightness = data.test.read(3)[0] * data.deviation[0] + data.mean[0]
    torch.testing.assert_close(matched.test.read(3)[0], (brightness - 0.1) / 0.5)
    assert (matched.mean, matched.deviation) == ((0.1,), (0.5,))


def test_nothing_changes_where_all_agrees():
    data = load_data("digits", image_size=8)
    assert match_treatment(data, data.treatment) is data


def test_matched_data_can_be_sent_to_other_processes():
    data = replace(load_data("fake:8x8:2", image_size=8))
    matched = match_treatment(data, treatment_of(data, classes=("1", "0"), mean=(0.0,) * 3, std=(1.0,) * 3))
    reader = matched.test.read
    assert type(reader).__module__ == "scansearch.data.matched"
    changed = replace(reader, read=len)  # the data's own part is tested with the data
    pickle.loads(pickle.dumps(changed))
