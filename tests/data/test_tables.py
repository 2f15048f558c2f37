"""``labels.csv``: which columns are read, and every way in which a table and its pictures may not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.pictures import made_images

from scansearch.data import ImageData, load_data
from scansearch.errors import InputError


def made(folder: Path, table: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    """Twelve pictures in ``images/`` beside a table."""
    made_images(folder, ["images"], 12)
    (folder / name).write_text(table, encoding=encoding)
    return folder


def rows(pattern: str = "{i}.png,{label}", count: int = 12) -> str:
    return "".join(pattern.format(i=i, label="cat" if i % 3 else "dog") + "\n" for i in range(count))


def load(folder: Path, **options: object) -> ImageData:
    return load_data(f"folder:{folder}", image_size=8, **options)  # type: ignore[arg-type]


TABLES = {
    "file, label": "file,label\n" + rows(),
    "filename, class": "filename,class\n" + rows(),
    "Image, Target": "Image , Target\n" + rows(),
    "path with the folder": "path,label\n" + rows("images/{i}.png,{label}"),
    "id without extension": "id,label\n" + rows("{i},{label}"),
    "semicolons": "file;label\n" + rows("{i}.png;{label}"),
    "tabs": "file\tlabel\n" + rows("{i}.png\t{label}"),
    "other columns": "n,label,file,width\n" + rows("{i},{label},{i}.png,7"),
    "backslashes": "file,label\n" + rows("images\\{i}.png,{label}"),
    "empty lines": "file,label\n\n" + rows() + "\n\n",
    "quotes": 'file,label\n"0.png","cat"\n' + rows("{i}.png,{label}").partition("\n")[2],
    "byte order mark": "\ufefffile,label\n" + rows(),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_a_table_tells_the_classes(table: str, tmp_path: Path) -> None:
    data = load(made(tmp_path, table), scoring=True)
    assert data.classes == ("cat", "dog")
    plain = load_one_by_one(tmp_path / "images")
    first = "cat" if "quotes" in table or '"0.png","cat"' in table else "dog"
    expected = [first, *("cat" if i % 3 else "dog" for i in range(1, 12))]
    assert data.test.count == 12
    for index in range(12):
        image, label = data.test.read(index)
        number = next(i for i, own in enumerate(plain) if own.equal(image))
        assert data.classes[label] == expected[number]


def load_one_by_one(folder: Path) -> list:
    """Picture i of ``folder``, read through folders alone."""
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as copy:
        for i in range(12):
            Path(copy, f"{i:02}").mkdir()
            shutil.copy(folder / f"{i}.png", Path(copy, f"{i:02}", "x.png"))
        data = load(Path(copy), scoring=True)
        return [data.test.read(i)[0] for i in range(12)]


def test_a_table_is_split_or_tells_the_splits(tmp_path: Path) -> None:
    data = load(made(tmp_path / "whole", "file,label\n" + rows()))
    assert (data.train.count, data.validation.count, data.test.count) == (8, 2, 2)
    parts = ["train"] * 6 + ["Valid"] * 3 + ["test"] * 3
    lines = [f"{i}.png,{'cat' if i % 3 else 'dog'},{part}" for i, part in enumerate(parts)]
    data = load(made(tmp_path / "told", "file,label,split\n" + "\n".join(lines)))
    assert (data.train.count, data.validation.count, data.test.count) == (6, 3, 3)
    assert "classes are read from labels.csv" in data.notes


def test_the_only_table_is_read_whatever_its_name(tmp_path: Path) -> None:
    assert load(made(tmp_path / "a", "file,label\n" + rows(), "train.csv")).classes == ("cat", "dog")
    folder = made(tmp_path / "b", "file,label\n" + rows(), "train.csv")
    (folder / "other.csv").touch()
    with pytest.raises(InputError, match=r"one class only, 'images' .*labels\.csv"):
        load(folder)


def test_class_folders_win_over_a_table_of_another_name(tmp_path: Path) -> None:
    made_images(tmp_path, ["cat", "dog"], 4)
    (tmp_path / "sizes.csv").write_text("file,width\n")
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert any("no picture (.csv)" in note for note in data.notes)


def test_a_table_beside_folders_of_splits_is_told(tmp_path: Path) -> None:
    for part in ("train", "test"):
        made_images(tmp_path / part, ["cat", "dog"], 4)
    (tmp_path / "labels.csv").write_text("file,label\n")
    assert "passed over labels.csv: the folders tell the classes" in load(tmp_path).notes


def test_pictures_that_are_not_named_and_rows_that_repeat_are_told(tmp_path: Path) -> None:
    data = load(made(tmp_path, "file,label\n" + rows(count=10) + "0.png,dog\n"), scoring=True)
    assert data.test.count == 10
    assert "passed over 2 pictures that labels.csv does not name" in data.notes
    assert "labels.csv names 1 picture twice" in data.notes


def test_a_table_in_latin_1_is_read_and_told(tmp_path: Path) -> None:
    table = "file,label\n" + rows().replace("cat", "café")
    data = load(made(tmp_path, table, encoding="latin-1"))
    assert data.classes == ("café", "dog")
    assert "labels.csv is no UTF-8: read as Latin-1" in data.notes


BAD = {
    "columns": ("name,kind\n" + rows(), "has columns 'name', 'kind' (read are one of file, filename"),
    "no header": (rows(), "has columns '0.png', 'dog'"),
    "empty": ("", "has columns"),
    "no rows": ("file,label\n", "names no pictures"),
    "no label": ("file,label\n0.png,\n", "line 2: needs file and label"),
    "short row": ("file,label\n0.png\n", "line 2: needs file and label"),
    "missing files": ("file,label\n" + rows(count=15), "3 pictures of "),
    "outside": ("file,label\n../secret.png,cat\n", "'../secret.png' lies outside the folder"),
    "absolute": ("file,label\n/etc/passwd.png,cat\n", "lies outside the folder"),
    "drive": ("file,label\nC:\\x.png,cat\n", "lies outside the folder"),
    "two labels": ("file,label\n0.png,cat\n0.png,dog\n", "names '0.png' twice, with different values"),
    "split": ("file,label,split\n0.png,cat,extra\n", "line 2: split 'extra' is none of train"),
    "split left out": ("file,label,split\n0.png,cat,train\n1.png,cat,\n", "line 3: split '' is none of"),
    "one class": ("file,label\n0.png,cat\n1.png,cat\n", "one class only, 'cat'"),
    "huge field": ("file,label\n" + "x" * 200_000 + ",cat\n", "field larger than"),
}


@pytest.mark.parametrize(("table", "message"), BAD.values(), ids=BAD.keys())
def test_a_table_that_does_not_fit_is_one_line(table: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load(made(tmp_path, table))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be found: '12\.png', '13\.png', '14\.png'"):
        load(made(tmp_path, "file,label\n" + rows(count=15)))


def test_a_name_that_fits_two_pictures_is_refused(tmp_path: Path) -> None:
    made_images(tmp_path, ["images", "more"], 12)
    (tmp_path / "labels.csv").write_text("file,label\n" + rows())
    with pytest.raises(InputError, match=r"'0\.png' fits 'images/0\.png', 'more/0\.png'"):
        load(tmp_path)


def test_a_link_may_not_lead_a_table_outside(tmp_path: Path) -> None:
    # What a table names is looked up among the files of the folder, never opened by its name.
    folder = made(tmp_path / "data", "file,label\nimages/../../secret.png,cat\n0.png,dog\n")
    made_images(tmp_path, ["secret"], 1)
    with pytest.raises(InputError, match="lies outside the folder"):
        load(folder)
