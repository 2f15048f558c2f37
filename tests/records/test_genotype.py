"""Genotypes: equal content has an equal hash, files round-trip byte for byte, edits by hand are noticed."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scansearch.directions import FLIP, direction_families
from scansearch.errors import InputError
from scansearch.files.strict import parse_yaml, validate
from scansearch.records.genotype import Certificate, Genotype
from scansearch.records.provenance import Provenance
from scansearch.records.space import load_space

NAMES = [
    (family.name(7) if family.has_parameter else family.pattern) + flip
    for family in direction_families()
    for flip in ("", FLIP)
]
layer_lists = st.lists(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True), min_size=1, max_size=5
)
numbers = st.floats(0, 1e12, allow_nan=False)
certificates = st.builds(
    Certificate,
    objective=numbers,
    bound=numbers,
    lost_to_budget=numbers,
    k=st.sampled_from(["4", "1..6"]),
    budgets=st.dictionaries(st.sampled_from(["max_flops", "max_params"]), numbers),
    spent=st.dictionaries(st.sampled_from(["flops", "params"]), numbers),
    convention=st.none() | st.just("1e3"),
    image_size=st.none() | st.just((224, 224)),
    notes=st.lists(st.text("ab: #'\"-", max_size=10), max_size=2).map(tuple),
)
genotypes = st.builds(
    Genotype,
    family=st.sampled_from(["local_vim", "local_vmamba"]),
    space=st.none() | st.just("vim8"),
    layers=layer_lists,
    model=st.dictionaries(
        st.sampled_from(["embed_dim", "merge", "rope", "ratio", "dims"]),
        st.sampled_from([8, "sum", True, 0.1, [1, 2]]),
    ),
    provenance=st.builds(
        Provenance, seeds=st.lists(st.integers(0, 9)).map(tuple), note=st.none() | st.just("yes")
    ),
    certificate=st.none() | certificates,
)


@settings(max_examples=50, deadline=None)
@given(genotypes)
def test_a_file_gives_back_the_same_genotype_and_the_same_bytes(tmp_path_factory, genotype):
    path = tmp_path_factory.getbasetemp() / "genotype.yaml"
    genotype.save(path)
    again = Genotype.load(path)
    assert again == genotype
    assert again.hash == genotype.hash
    assert again.to_yaml().encode() == path.read_bytes()


@settings(max_examples=50, deadline=None)
@given(genotypes, genotypes)
def test_the_hash_tells_family_layers_and_model_and_nothing_else(one, other):
    def content(genotype):
        return json.dumps([genotype.family, genotype.layers, genotype.model], sort_keys=True)

    assert (one.hash == other.hash) == (content(one) == content(other))
    relabelled = other.model_copy(update={"provenance": one.provenance, "certificate": one.certificate})
    assert relabelled.content_hash() == other.hash


def test_the_hash_is_fixed_for_ever():
    assert (
        Genotype(family="local_vim", layers=[["h", "v_flip"]], model={"embed_dim": 8}).hash == "b130366d3297"
    )


def test_hashes_that_look_like_numbers_survive_the_file(tmp_path):
    # one of these layers has a hash such as 12345678901e, digits with at most one e: YAML might read a number
    checked = 0
    for width in range(20_000):
        genotype = Genotype(family="local_vim", layers=[["h"]], model={"embed_dim": width})
        if genotype.hash.replace("e", "", 1).isdecimal():
            assert validate(parse_yaml(genotype.to_yaml(), source="x"), Genotype, source="x") == genotype
            checked += 1
    assert checked > 20


VALID = "schema: 1\nfamily: local_vim\nlayers:\n- [h, v]\n- [w2]\nmodel:\n  embed_dim: 8\n"


def load(tmp_path, text):
    path = tmp_path / "g.yaml"
    path.write_text(text)
    return Genotype.load(path)


def test_a_file_written_by_hand_needs_no_hash(tmp_path):
    genotype = load(tmp_path, VALID)
    assert genotype.directions_per_layer == (2, 1)
    assert len(genotype.hash) == 12
    assert load(tmp_path, VALID + f"hash: {genotype.hash!r}\n") == genotype


def test_a_file_edited_by_hand_is_noticed(tmp_path):
    text = load(tmp_path, VALID).to_yaml()
    with pytest.raises(InputError, match="edited by hand"):
        load(tmp_path, text.replace("[h, v]", "[h, v_flip]"))
    with pytest.raises(InputError, match="edited by hand"):
        load(tmp_path, text.replace("embed_dim: 8", "embed_dim: 9"))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("model:", "modell:", r"unknown key 'modell' \(did you mean 'model'\? allowed: schema, family"),
        ("schema: 1", "schema: 2", "schema: input should be 1"),
        (
            "family: local_vim",
            "family: vit",
            "family: input should be 'local_vim' or 'local_vmamba', found 'vit'",
        ),
        ("[w2]", "[w1]", "layer 1: unknown scan direction 'w1'; the nearest valid name is 'w2'"),
        ("[w2]", "[]", "layer 1: at least one direction"),
        ("[w2]", "[h, h]", "layer 1: direction 'h' is listed twice"),
        ("[w2]", "w2", "layers.1: input should be a"),
        ("[w2]", "[2]", "layers.1.0: input should be a valid string, found 2"),
        ("- [w2]\n", "- [w2]\nlayers: []\n", "key 'layers' is repeated"),
        ("- [h, v]\n- [w2]", " []", "layers: .*at least 1 item"),
        ("embed_dim: 8", "depths: [1, 2]", "2 given, but model.depths adds up to 3"),
        ("embed_dim: 8", "depths: 3", "model: depths must be a list of whole numbers"),
        ("embed_dim: 8", "depths: [1, x]", "model: depths must be a list of whole numbers"),
        (
            "embed_dim: 8",
            "img_size: 28.5",
            "model: image size 28.5: expected a side in pixels, or height and width",
        ),
        ("embed_dim: 8", "img_size: [8]", "model: image size \\[8\\]: expected a side"),
        ("embed_dim: 8", "img_size: [8, true]", "model: image size \\[8, True\\]: expected a side"),
        ("embed_dim: 8", "img_size: ab", "model: image size .ab.: expected a side"),
        ("schema: 1", "schema: &a 1", ""),
        ("embed_dim: 8", "a: &a 1\n  b: *a", "aliases"),
        ("embed_dim: 8", "a: !!python/object/apply:os.system ['true']", "constructor"),
        ("embed_dim: 8", "a: !!binary aGk=", "model: a must be a plain value"),
    ],
)
def test_a_wrong_file_is_one_line_naming_file_key_and_what_is_allowed(tmp_path, old, new, problem):
    text = VALID.replace(old, new)
    assert text != VALID
    if not problem:
        load(tmp_path, text)  # an anchor alone does no harm
        return
    with pytest.raises(InputError, match=problem) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'g.yaml'}: ")
    assert "\n" not in str(caught.value)


def test_genotypes_are_immutable():
    genotype = Genotype(family="local_vim", layers=[["h"]])
    with pytest.raises(ValueError, match="frozen"):
        genotype.layers = (("v",),)


def test_layers_of_a_space_are_put_in_candidate_order():
    space = load_space("vim8")
    genotype = Genotype.of_space(space, [["w2", "h"], ["v_flip"], ["w7", "h_flip"]])
    assert genotype.layers == (("h", "w2"), ("v_flip",), ("h_flip", "w7"))
    assert (genotype.space, genotype.variant, genotype.family) == ("vim8", "micro", "local_vim")
    assert genotype.model["embed_dim"] == 32


@pytest.mark.parametrize(
    ("layers", "problem"),
    [
        ([["h"]], "1 layers given, but vim8/micro has 3"),
        ([["h"], ["h"], ["w3"]], r"layer 2: 'w3' is no candidate \(did you mean 'w2'\? allowed: h, h_flip"),
        ([["h"], ["h", "h"], ["v"]], "layer 1: direction 'h' is listed twice"),
        ([["h"], [], ["v"]], "layer 1: at least one direction"),
    ],
)
def test_layers_that_do_not_fit_the_space_are_refused(layers, problem):
    with pytest.raises(InputError, match=problem):
        Genotype.of_space(load_space("vim8"), layers)


def test_another_depth_needs_its_own_search():
    genotype = Genotype.of_space(load_space("vim8"), [["h"]] * 3)
    with pytest.raises(InputError, match="3 layers, variant 'tiny' of vim8 has 20"):
        genotype.build(variant="tiny")
    with pytest.raises(InputError, match="names no space"):
        Genotype(family="local_vim", layers=[["h"]]).build(variant="tiny")


def test_a_variant_comes_from_the_space_of_the_genotype():
    space = load_space("vim8")
    wide = space.variants["tiny"].model_copy(update={"depth": 3})
    mine = space.model_copy(update={"name": "mine", "variants": space.variants | {"wide": wide}})
    genotype = Genotype.of_space(mine, [["h", "w2"], ["v"], ["w7"]])
    built = genotype.build(variant="wide", space=mine, num_classes=2, img_size=28)
    assert built.embed_dim == wide.derived.embed_dim
    assert built.directions == genotype.layers
    with pytest.raises(InputError, match="'mine' does not come with scansearch: give space"):
        genotype.build(variant="wide")
    with pytest.raises(InputError, match="give variant too"):
        genotype.build(space=mine)
    with pytest.raises(InputError, match="family 'local_vim', space 'vmamba8' of 'local_vmamba'"):
        genotype.build(variant="micro", space="vmamba8")


def test_an_own_space_does_not_become_the_shipped_one_of_that_name():
    """A space called vim8 with other sizes, or other candidates, is not the vim8 that comes with scansearch."""
    space = load_space("vim8")
    shipped = Genotype.of_space(space, [["h"]] * 3)
    assert shipped.build(variant="micro", num_classes=2).embed_dim == 32
    width = space.variants["micro"].derived.model_copy(update={"embed_dim": 40})
    micro = space.variants["micro"].model_copy(update={"derived": width})
    wider = space.model_copy(update={"variants": space.variants | {"micro": micro}})
    other = space.model_copy(update={"candidates": ("h", "w3")})
    for mine, names in ((wider, ["h"]), (other, ["w3"])):
        genotype = Genotype.of_space(mine, [names] * 3)
        with pytest.raises(InputError, match="'vim8' that comes with scansearch is not this genotype's"):
            genotype.build(variant="micro")
        assert genotype.build(variant="micro", space=mine, num_classes=2).directions == genotype.layers
    smaller = shipped.model_copy(update={"model": shipped.model | {"img_size": 20}})
    assert smaller.build(variant="micro", num_classes=2).embed_dim == 32  # the image size is free
