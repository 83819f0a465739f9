import contextlib
import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.errors import DataError
from evals.reading.files import iterate_json_list

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


def entries_of(path, field="items"):
    return [entry for _, entry in iterate_json_list(path, field)]


@settings(deadline=None)
@given(
    before=st.dictionaries(st.text(max_size=4), VALUES, max_size=3),
    items=st.lists(VALUES, min_size=1, max_size=5),
    indent=st.sampled_from([None, 0, 2]),
    is_ascii=st.booleans(),
)
def test_entries_are_those_of_the_whole_file(tmp_path_factory, before, items, indent, is_ascii):
    path = tmp_path_factory.mktemp("lists") / "a.json"
    before.pop("items", None)
    content = {**before, "items": items, "after": {"items": [1]}}
    text = json.dumps(content, indent=indent, ensure_ascii=is_ascii)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        expected = json.loads(path.read_bytes().decode())["items"]
    except UnicodeDecodeError:  # a lone surrogate
        with pytest.raises(DataError, match="is not UTF-8"):
            entries_of(path)
    else:
        assert entries_of(path) == expected


def test_place_names_the_entry_and_the_file_may_be_compressed(tmp_path):
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b'\xef\xbb\xbf {"x": 1, "items": [7, 8]}'))
    path = tmp_path / "a.json"
    pairs = list(iterate_json_list(path, "items"))
    assert pairs == [(f"{path}.gz: items[0]", 7), (f"{path}.gz: items[1]", 8)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"items": [1,\n2', r"a\.json:2 is not JSON"),
        ('{"items": [' + "[" * 99_999, r"a\.json is nested too deep"),
        ('{"items": [1,]}', r"a\.json:1 is not JSON"),
        ('{"items": [1 2]}', r"a\.json:1 is not JSON: Expecting ',' delimiter"),
        ('{"items" [1]}', r"is not JSON: Expecting ':' delimiter"),
        ('{"a": 1, "items": [{"b": }]}', r"a\.json:1 is not JSON"),
        ('{"a": 1', r"is not JSON: Expecting property name"),
        ('{"a": 1 2', r"is not JSON: Expecting property name"),
        ("", r"is not JSON"),
        ("[1]", "but is none"),
        ('{"items": {}}', "but `items` is none"),
        ('{"a": [1]}', "but lacks `items`"),
        ("{}", "but lacks `items`"),
        ('{"items": []}', "`items` is empty"),
        ('{"items": ["\\', r"is not JSON"),
        ('{"items": [1],\n"a": [2', r"a\.json:2 is not JSON"),
        ('{"items": [1]', r"a\.json:1 is not JSON: Expecting ',' delimiter \(column 14\)"),
        ('{"items": [1]}\n{"items": [2]}', r"a\.json:2 is not JSON: Extra data"),
        ('{"items": [1], "items": [2]}', r"a\.json holds 'items' twice in one object"),
    ],
)
def test_broken_file_is_located(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=message):
        entries_of(tmp_path / "a.json")


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("lists") / "a.json"
    path.write_bytes(('{"items": [' + text).encode("utf-8", "surrogatepass"))
    with contextlib.suppress(DataError):
        entries_of(path)
