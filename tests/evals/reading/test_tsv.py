import base64
import gzip

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas._libs.parsers import STR_NA_VALUES

from evals.errors import DataError
from evals.reading.tsv import MISSING_VALUES, Base64Image, read_cell, read_tsv
from tests.evals.small_data import encode


def write(folder, content, name="t.tsv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_cells_that_are_empty_are_those_of_pandas():
    assert set(STR_NA_VALUES) == MISSING_VALUES


def test_quoted_cells_hold_tabs_quotes_and_line_breaks(tmp_path):
    path = write(tmp_path, 'a\tb\n1\t"x\ty\n""z"""\n2\tplain\n')
    rows = [row for _, row in read_tsv(path, ["a", "b"])]
    assert rows == [{"a": "1", "b": 'x\ty\n"z"'}, {"a": "2", "b": "plain"}]


def test_place_names_file_and_line(tmp_path):
    path = write(tmp_path, 'a\tb\n1\t"x\ny"\n2\tz\n')
    assert [place for place, _ in read_tsv(path, [])] == [f"{path}:3", f"{path}:4"]


def test_compressed_table_with_a_mark_and_large_cells_is_read(tmp_path):
    large = "x" * 500_000
    write(tmp_path, gzip.compress(f"\ufeffa\tb\n1\t{large}\n".encode()), "t.tsv.gz")
    ((_, row),) = read_tsv(tmp_path / "t.tsv", ["a"])
    assert row == {"a": "1", "b": large}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index,question,A\n1,x,y\n", r"t\.tsv:1 is comma-separated"),
        ("index\tother\n1\tx\n", r"t\.tsv:1 lacks the columns question"),
        ("index\tquestion\tindex\n1\tx\t2\n", "names a column twice"),
        ("index\tquestion\n1\n", r"t\.tsv:2 must have 2 tab-separated cells"),
        ("index\tquestion\n1\tx\ty\n", r"t\.tsv:2 must have 2 .*has 3"),
        ("index\tquestion\n", "holds no row"),
        ("", "holds no row"),
        ('index\tquestion\n1\t"x\n', "is no tab-separated row"),
        ("index\tquestion\n1\tГруша\n".encode("cp1251"), "is not UTF-8"),
        ("index\tquestion\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_broken_table_is_located(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_tsv(write(tmp_path, content), ["index", "question"])


def test_missing_or_truncated_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"does not exist.*http://x"):
        read_tsv(tmp_path / "none.tsv", [], origin="http://x")
    write(tmp_path, gzip.compress(b"a\tb\n" * 900)[:-12], "t.tsv.gz")
    with pytest.raises(DataError, match="cannot be read"):
        read_tsv(tmp_path / "t.tsv", [])


CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_table_written_by_pandas_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("tables") / "t.tsv"
    frame = pd.DataFrame([("first", *row) for row in rows], columns=["n", "a", "b"])
    frame.to_csv(path, sep="\t", index=False, quoting=1)
    got = [(row["a"], row["b"]) for _, row in read_tsv(path, ["a", "b"])]
    assert got == [tuple(row) for row in rows]


def test_word_none_is_empty_only_as_pandas_spells_it():
    cells = ("None", "none", "NONE", "nan", "NaN", "n/a", "-")
    read = [read_cell({"A": cell}, "A") for cell in cells]
    assert read == ["", "none", "NONE", "", "", "", "-"]


def test_image_in_a_table_is_decoded_when_opened(tmp_path):
    image = Base64Image(base64.b64encode(encode(1)).decode(), tmp_path, "t.tsv:2")
    same = Base64Image(base64.b64encode(encode(1)).decode(), tmp_path, "t.tsv:9")
    assert image.key == same.key != Base64Image("", tmp_path, "t.tsv:2").key
    assert image.open().size == (7, 5)


@pytest.mark.parametrize("content", ["", "%%%", "aGVsbG8=", "aGVsbG8"])
def test_text_that_is_no_image_is_an_os_error(tmp_path, content):
    image = Base64Image(content, tmp_path, "t.tsv:2")
    assert image.exists() == bool(content)
    assert bool(image.refused) == (not content)
    with pytest.raises(OSError, match=r"t\.tsv:2"):
        image.open()
