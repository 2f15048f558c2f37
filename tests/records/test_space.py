"""Search spaces: found by name or path, checked before anything runs."""

import copy

import pytest

from scansearch.directions import FLIP
from scansearch.errors import InputError
from scansearch.files.strict import dump_yaml, parse_yaml, validate
from scansearch.records.space import SearchSpace, load_space, space_names, spaces_folder

VIM = {
    "schema": 1,
    "name": "mine",
    "family": "local_vim",
    "candidates": ["h", "v_flip"],
    "default_variant": "only",
    "variants": {
        "only": {
            "image_size": 8,
            "depth": 2,
            "backbone": {"patch_size": 2},
            "supernet": {"embed_dim": 8},
            "derived": {"embed_dim": 8},
        }
    },
}
VMAMBA = VIM | {
    "family": "local_vmamba",
    "variants": {
        "only": {
            "image_size": 8,
            "depths": [1, 2],
            "backbone": {"patch_size": 2},
            "supernet": {"dims": [4, 8]},
            "derived": {"dims": [4, 8]},
        }
    },
}


def made(base=VIM, **changes):
    """``base`` with values changed at dotted paths; None removes."""
    content = copy.deepcopy(base)
    for path, value in changes.items():
        *parts, last = path.split("__")
        inner = content
        for part in parts:
            inner = inner[part]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return validate(content, SearchSpace, source="mine.yaml")


@pytest.mark.parametrize("name", ["vim8", "vmamba8", "vim16", "vmamba16"])
def test_the_spaces_that_come_along_are_whole(name):
    space = load_space(name)
    assert name in space_names()
    assert space.name == name
    assert list(space.variants) == ["micro", "tiny", "small"]
    for variant in space.variants:
        layers = space.layer_candidates(variant)
        assert len(layers) == space.variant(variant).layers
        assert {len(names) for names in layers} == {int(name.removeprefix("vmamba").removeprefix("vim"))}
        for names in layers:  # every direction with its reverse
            assert {n + FLIP for n in names if not n.endswith(FLIP)} == {n for n in names if n.endswith(FLIP)}
    for family in ("vim", "vmamba"):
        small, large = load_space(f"{family}8"), load_space(f"{family}16")
        assert large.variants == small.variants
        assert large.layer_candidates()[0][:8] == small.layer_candidates()[0]


def test_the_sizes_are_those_of_the_paper():
    vim, vmamba = load_space("vim8"), load_space("vmamba8")
    for name, width in (("tiny", 192), ("small", 384)):
        variant = vim.variant(name)
        assert (variant.layers, variant.supernet.embed_dim, variant.derived.embed_dim) == (20, 128, width)
    assert vmamba.variant("tiny").depths == (2, 2, 9, 2)
    assert vmamba.variant("small").depths == (2, 2, 27, 2)
    assert vmamba.variant("tiny").supernet.dims == (32, 64, 128, 256)
    assert vmamba.variant("tiny").derived.dims == (96, 192, 384, 768)


def test_a_space_is_found_by_path_and_survives_a_round_trip(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text(dump_yaml(VIM))
    space = load_space(path)
    assert load_space(str(path)) == space
    text = dump_yaml(space.model_dump(mode="json", by_alias=True))
    again = validate(parse_yaml(text, source="again"), SearchSpace, source="again")
    assert again == space
    assert dump_yaml(again.model_dump(mode="json", by_alias=True)) == text


def test_unknown_spaces_and_variants_name_what_there_is():
    with pytest.raises(
        InputError, match=r"unknown space 'vim9' \(did you mean 'vim8'\? allowed: vim16, vim8, .* or a path"
    ):
        load_space("vim9")
    with pytest.raises(InputError, match=r"vim8: No such file"):
        load_space("../vim8")
    with pytest.raises(InputError, match=r"nowhere\.yaml: No such file"):
        load_space("nowhere.yaml")
    with pytest.raises(
        InputError, match=r"space 'vim8' has no variant 'huge' \(allowed: micro, tiny, small\)"
    ):
        load_space("vim8").variant("huge")


def test_layers_may_have_their_own_candidates():
    space = made(candidates=[["h", "v"], ["w2"]])
    assert space.layer_candidates() == (("h", "v"), ("w2",))
    assert made(VMAMBA).layer_candidates() == (("h", "v_flip"),) * 3


def test_model_arguments_follow_role_and_family():
    vim = made(variants__only__derived={"embed_dim": 16})
    assert vim.model_arguments(None, "supernet")["embed_dim"] == 8
    assert vim.model_arguments(None, "derived")["embed_dim"] == 16
    vmamba = made(VMAMBA).model_arguments(None, "derived")
    assert tuple(vmamba["depths"]) == (1, 2)
    assert "expand" not in vmamba
    assert vmamba["window_padding"] == "skip"


@pytest.mark.parametrize(
    ("base", "changes", "problem"),
    [
        (VIM, {"schema": 2}, "schema: input should be 1"),
        (VIM, {"name": "No Spaces"}, "name: string should match"),
        (VIM, {"family": "vit"}, "family: input should be 'local_vim' or 'local_vmamba'"),
        (VIM, {"candidates": []}, "at least one direction"),
        (VIM, {"candidates": ["h", "h"]}, "'h' is listed twice"),
        (VIM, {"candidates": ["h", "w1"]}, "unknown scan direction 'w1'; the nearest valid name is 'w2'"),
        (VIM, {"candidates": [["h"], []]}, "layer 1: at least one direction"),
        (VIM, {"candidates": [["h"]]}, "candidates lists 1 layers, but variant only has 2"),
        (VIM, {"candidates": "h"}, "candidates"),
        (VIM, {"default_variant": "x"}, r"default_variant 'x' is not a variant \(allowed: only\)"),
        (VIM, {"variants": {}}, "variants: dictionary should have at least 1 item"),
        (
            VIM,
            {"variants__only__depth": 0},
            "variants.only.depth: input should be greater than or equal to 1",
        ),
        (VIM, {"variants__only__depth": None}, "variants.only: family local_vim needs depth"),
        (VIM, {"variants__only__depths": [2]}, "variants.only: family local_vim needs depth"),
        (
            VIM,
            {"variants__only__supernet": {"dims": [8]}},
            "variants.only.supernet: family local_vim needs embed_dim",
        ),
        (
            VIM,
            {"variants__only__foo": 1},
            r"unknown key 'variants.only.foo' \(allowed: image_size, depth, depths",
        ),
        (
            VIM,
            {"variants__only__backbone": {"patch": 2}},
            r"unknown key 'variants.only.backbone.patch' \(did you mean 'patch_size'\? allowed: pat",
        ),
        (VIM, {"switches": {"merge": "max"}}, "switches.merge: input should be 'sum' or 'mean', found 'max'"),
        (VMAMBA, {"variants__only__depth": 3}, "variants.only: family local_vmamba needs depths"),
        (
            VMAMBA,
            {"variants__only__derived": {"dims": [4]}},
            "variants.only.derived: dims needs one entry per stage",
        ),
        (
            VMAMBA,
            {"variants__only__backbone": {"patch_size": 2, "rope": True}},
            "exist in family local_vim only",
        ),
    ],
)
def test_an_impossible_space_is_one_line_naming_key_and_what_is_allowed(base, changes, problem):
    with pytest.raises(InputError, match=problem) as caught:
        made(base, **changes)
    assert str(caught.value).startswith("mine.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("depths", [[], [0, 2], [2, -1]])
def test_stages_need_at_least_one_layer(depths):
    with pytest.raises(InputError, match="depths"):
        made(VMAMBA, variants__only__depths=depths, variants__only__derived={"dims": [4] * len(depths)})


def test_widths_of_stages_must_be_positive():
    with pytest.raises(InputError, match="dims"):
        made(VMAMBA, variants__only__derived={"dims": [0, 8]})


def test_the_files_stand_where_the_checkout_keeps_them():
    assert (spaces_folder() / "vim8.yaml").is_file()
