"""Reading YAML: what the user wrote is what arrives, and nothing is executed or expanded."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from scansearch.errors import InputError
from scansearch.files.strict import (
    Integers,
    StrictModel,
    StringLists,
    dump_yaml,
    load_yaml,
    parse_yaml,
    read_text,
    validate,
)


class Part(StrictModel):
    size: int = Field(ge=1)


class Whole(StrictModel):
    name: str
    rate: float = 0.0
    flag: bool = False
    sizes: Integers = ()
    lists: StringLists = ()
    part: Part | None = None


def value(text):
    return parse_yaml(f"x: {text}", source="f.yaml")["x"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+1", -25.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("7", 7),
        ("-0", 0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("2024-05-06", "2024-05-06"),
        ("'1e-3'", "1e-3"),
        ("w7_flip", "w7_flip"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
    ],
)
def test_plain_values_mean_what_yaml_1_2_says(text, expected):
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


def test_special_numbers():
    assert value(".inf") == math.inf
    assert value("-.inf") == -math.inf
    assert math.isnan(value(".nan"))


@pytest.mark.parametrize("text", ["a: 1\na: 2", "b: {a: 1, a: 2}", "c: [{a: 1, 'a': 2}]"])
def test_a_repeated_key_is_refused_with_its_line(text):
    with pytest.raises(InputError, match=r"f\.yaml: line \d: key 'a' is repeated"):
        parse_yaml(text, source="f.yaml")


@pytest.mark.parametrize("text", ["1: a", "null: a", "true: a", "[a, b]: c", "? {a: 1}\n: b"])
def test_keys_must_be_text(text):
    with pytest.raises(InputError, match=r"f\.yaml: line 1: .*must be a string"):
        parse_yaml(text, source="f.yaml")


def test_an_alias_bomb_is_refused_before_it_expands():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    with pytest.raises(InputError, match=r"line 2: aliases \(\*a0\) are not allowed"):
        parse_yaml("\n".join(levels), source="f.yaml")


def test_merge_keys_are_refused_with_their_alias():
    with pytest.raises(InputError, match="aliases"):
        parse_yaml("a: &a {x: 1}\nb: {<<: *a}", source="f.yaml")


def test_python_tags_are_refused_and_nothing_runs(tmp_path):
    target = tmp_path / "ran"
    for tag in ("python/object/apply:os.system", "python/object/new:os.system"):
        with pytest.raises(InputError, match="line 1: could not determine a constructor"):
            parse_yaml(f"x: !!{tag} ['touch {target}']", source="f.yaml")
    with pytest.raises(InputError):
        parse_yaml("x: !!python/name:os.system", source="f.yaml")
    assert not target.exists()


@pytest.mark.parametrize("text", ["", "- a", "just text", "null", "[]"])
def test_a_file_without_keys_is_refused(text):
    with pytest.raises(InputError, match=r"f\.yaml: expected keys and values"):
        parse_yaml(text, source="f.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: b: c",
        "\t a: 1",
        "a: 'x",
        "a: 1\n---\nb: 2",
        "a: !!int x",
        "a: !!float x",
        "a: " + "[" * 3000,
        "a: \x00",
        "a: !!timestamp 2024-99-99",
        "a: " + "1" * 6000,
    ],
)
def test_broken_yaml_is_one_line_naming_the_file(text):
    with pytest.raises(InputError, match=r"^f\.yaml: ") as caught:
        parse_yaml(text, source="f.yaml")
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab:{}[]&*!-?|>'\"%@`#,\n\t 01.eE_<=~", max_size=40))
def test_any_text_parses_or_is_one_clear_line(text):
    try:
        parse_yaml(text, source="f.yaml")
    except InputError as error:
        message = str(error)
    else:
        return
    assert message.startswith("f.yaml: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: a\nnam: b",
            "unknown key 'nam' (did you mean 'name'? allowed: name, rate, flag, sizes, lists, part)",
        ),
        ("name: a\npart: {size: 1, siz: 2}", "unknown key 'part.siz' (did you mean 'size'? allowed: size)"),
        ("rate: 1", "key 'name' is missing"),
        ("name: 3", "name: input should be a valid string, found 3"),
        ("name: a\nflag: 1", "flag: input should be a valid boolean, found 1"),
        ("name: a\nflag: yes", "flag: input should be a valid boolean, found 'yes'"),
        ("name: a\nrate: '1'", "rate: input should be a valid number, found '1'"),
        ("name: a\nsizes: [1, 2.5]", "sizes.1: input should be a valid integer, found 2.5"),
        ("name: a\nsizes: 3", "sizes: input should be a list, found 3"),
        ("name: a\nlists: [[h], [3]]", "lists.1.0: input should be a valid string, found 3"),
        ("name: a\npart: {size: 0}", "part.size: input should be greater than or equal to 1, found 0"),
        ("name: 3\nrate: x", "name: input should be a valid string, found 3 (and 1 more)"),
    ],
)
def test_a_wrong_file_names_key_problem_and_what_is_allowed(tmp_path, text, message):
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_yaml(path, Whole)
    assert str(caught.value) == f"{path}: {message}"


def test_models_are_immutable():
    whole = validate({"name": "a"}, Whole, source="here")
    with pytest.raises(ValueError, match="frozen"):
        whole.name = "b"


def test_unreadable_files_are_one_line_naming_the_file(tmp_path):
    binary, large = tmp_path / "b.yaml", tmp_path / "l.yaml"
    binary.write_bytes(b"\xff\xfe\x00a")
    large.write_text("a: " + "b" * 100)
    for path, problem in (
        (tmp_path / "none.yaml", "No such file"),
        (tmp_path, "directory"),
        (binary, "not a UTF-8 text file"),
        (Path("nul\0name"), "null"),
    ):
        with pytest.raises(InputError, match=problem) as caught:
            read_text(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="larger than 50 bytes"):
        read_text(large, limit=50)


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False),
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff\u2028\u2029"),
        max_size=12,
    ),
    st.sampled_from(
        ["1e-3", "yes", "null", "true", "0x1F", "1_000", "12:30:45", "2024-05-06", "", " a ", "*a", "- b"]
    ),
)
keys = st.text("abcdefg_0123456789", min_size=1, max_size=6)
data = st.dictionaries(
    keys,
    st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(data)
def test_what_is_dumped_loads_as_the_same_and_dumps_the_same_bytes(content):
    text = dump_yaml(content)
    again = parse_yaml(text, source="f.yaml")
    assert again == content
    assert dump_yaml(again) == text


def test_lists_of_plain_values_stand_on_one_line():
    assert dump_yaml({"layers": [["h", "v"], ["w2"]], "k": 2}) == "layers:\n- [h, v]\n- [w2]\nk: 2\n"
