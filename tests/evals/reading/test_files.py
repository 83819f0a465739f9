import errno
import gzip
import io
import json
import os
import pickle
import re
import warnings
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from evals.errors import DataError
from evals.reading.files import (
    check_unique,
    file_state,
    find_file,
    find_optional,
    iterate_json_list,
    iterate_lines,
    read_json,
    read_jsonl,
    require,
    require_id,
    require_texts,
    visible,
)
from evals.reading.images import ImageFile, decode_image, image_in


def test_compressed_file_serves_for_the_plain_one(tmp_path):
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b'{"a": 1}'))
    assert find_file(tmp_path / "a.json") == tmp_path / "a.json.gz"
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_plain_file_goes_before_the_compressed_one(tmp_path):
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"1"))
    (tmp_path / "a.json").write_bytes(b"2")
    assert read_json(tmp_path / "a.json") == 2


def test_missing_file_is_named_with_its_origin(tmp_path):
    with pytest.raises(DataError, match=r"a\.json does not exist.*https://example\.org"):
        read_json(tmp_path / "a.json", "https://example.org")
    assert find_optional(tmp_path / "a.json") is None


def test_what_is_there_but_no_file_is_called_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "pipe", "no regular file")):
        with pytest.raises(DataError, match=re.escape(f"{path} is {kind}. Name a file.")):
            find_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n"b"}', r"a\.json:2 is not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"x": {"q1": 1, "q1": 2}}', "'q1' twice"),
        (b"", r"a\.json:1 is not JSON"),
        (b"[" * 99_999, r"a\.json is nested too deep"),
    ],
)
def test_broken_json_is_located(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_json(tmp_path / "a.json")


def test_truncated_archive_is_a_data_error(tmp_path):
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b'{"a": 1}' * 100)[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_content_tells_whether_a_file_is_packed(name, pack, tmp_path):
    (tmp_path / name).write_bytes(pack(b'{"a": 1}\n'))
    assert read_jsonl(tmp_path / "a.jsonl") == [(1, {"a": 1})]


def test_file_that_may_not_be_read_is_not_to_be_fetched_again(tmp_path, monkeypatch):
    def forbid(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "a.json").write_text("1")
    monkeypatch.setattr(Path, "read_bytes", forbid)  # root may read everything
    with pytest.raises(DataError, match=r"a\.json cannot be read: Permission denied. Give"):
        read_json(tmp_path / "a.json")


def test_file_of_another_kind_is_not_told_to_be_a_bad_line(tmp_path):
    (tmp_path / "a.jsonl").write_text("question_id,text\n1,x\n")
    with pytest.raises(DataError, match=r"a\.jsonl:1 is not JSON.*\(JSON Lines\): convert it"):
        read_jsonl(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text('{"a": 1}\nx\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2 is not JSON.*Mend or remove the line"):
        read_jsonl(tmp_path / "a.jsonl")


def test_jsonl_keeps_line_numbers_and_unicode_separators(tmp_path):
    text = '{"a": "x\u2028y"}\r\n\n{"a": 2}'
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8", newline="")
    assert read_jsonl(tmp_path / "a.jsonl") == [(1, {"a": "x\u2028y"}), (3, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "no JSON object"),
        (b'"\xff"', "is not JSON"),
        ("[" * 99_999, "is not JSON"),
    ],
)
def test_broken_line_is_named_by_number(tmp_path, line, message):
    line = line if isinstance(line, bytes) else line.encode()
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(DataError, match=rf"a\.jsonl:2 .*{message}|a\.jsonl:2 is {message}"):
        read_jsonl(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("record", "kind", "message"),
    [
        ({}, str, "lacks the field `f`"),
        ({"f": 1}, str, "must be str, but is 1"),
        ({"f": True}, int, "must be int, but is true"),
        ({"f": []}, (str, type(None)), "must be str or null"),
        ([], str, "must be a JSON object"),
    ],
)
def test_required_field_of_another_type_is_refused(record, kind, message):
    with pytest.raises(DataError, match=f"q.json.*{message}"):
        require(record, "f", kind, "q.json")


def test_id_is_text_or_whole_number():
    assert [require_id({"i": value}, "i", "q") for value in ("7", 7)] == ["7", 7]
    with pytest.raises(DataError, match="`i` must be"):
        require_id({"i": 7.5}, "i", "q")


def test_repeated_key_is_named():
    check_unique(["a", "b"], "f")
    with pytest.raises(DataError, match="'a' occurs twice"):
        check_unique(["a", "b", "a"], "f")


def palette_image():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    return image


@pytest.mark.parametrize("transparency", [0, b"\x00\x80"])
def test_palette_transparency_is_not_composited(tmp_path, transparency):
    path = tmp_path / "a.png"
    palette_image().save(path, transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = ImageFile("a", path).open()
    assert (image.mode, image.info) == ("RGB", {})
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (200, 100, 50)]


def test_nothing_about_the_file_stays_with_an_rgb_image(tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "a.jpg", dpi=(72, 72))
    assert ImageFile("a", tmp_path / "a.jpg").open().info == {}


def test_alpha_is_dropped_and_not_composited(tmp_path):
    Image.new("RGBA", (1, 1), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert ImageFile("a", tmp_path / "a.png").open().getpixel((0, 0)) == (10, 20, 30)


def test_image_is_given_as_stored_on_request(tmp_path):
    path = tmp_path / "a.png"
    palette_image().save(path, transparency=0)
    image = ImageFile("a", path, convert_rgb=False).open()
    assert (image.mode, image.info["transparency"]) == ("P", 0)


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, b"GIF89a"]
)
def test_what_is_no_image_raises_os_error(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(OSError, match=r"a\.png|identify"):
        ImageFile("a", tmp_path / "a.png").open()


def test_truncated_image_raises_os_error(tmp_path):
    path = tmp_path / "a.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(OSError):  # noqa: PT011 - the message is PIL's
        ImageFile("a", path).open()


def test_missing_image_raises_os_error(tmp_path):
    image = image_in(tmp_path, "a.png")
    assert not image.exists()
    with pytest.raises(FileNotFoundError):
        image.open()


@pytest.mark.parametrize("name", ["../secret.png", "a/../../secret.png", "/etc/passwd", ".."])
def test_name_that_leads_out_of_the_folder_is_a_missing_image(tmp_path, name):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "secret.png")
    image = image_in(folder, name)
    assert not image.exists()
    with pytest.raises(OSError, match="leads out of the image folder"):
        image.open()


@pytest.mark.parametrize("name", ["", ".", "b", "nul\0byte", "x" * 5000])
def test_name_of_no_regular_file_is_a_missing_image(tmp_path, name):
    (tmp_path / "b").mkdir()
    assert not image_in(tmp_path, name).exists()


def test_name_within_the_folder_may_turn_around(tmp_path):
    (tmp_path / "b").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    assert image_in(tmp_path, "b/../a.png").exists()


def test_image_file_survives_pickling():
    image = ImageFile("a", Path("folder/a.png"), convert_rgb=False)
    assert pickle.loads(pickle.dumps(image)) == image
    assert json.dumps(image.key) == '"a"'


def test_message_about_a_spoiled_image_is_the_same_every_time():
    messages = set()
    for file in [io.BytesIO(b"no image") for _ in range(3)]:
        with pytest.raises(OSError, match="Image t: row 1 is in no format") as caught:
            decode_image(file, "t: row 1")
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_lack_of_memory_is_not_the_fault_of_the_image(tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def run_out(*_):
        raise MemoryError

    monkeypatch.setattr(PngImageFile, "load", run_out)
    with pytest.raises(MemoryError):
        image_in(tmp_path, "a.png").open()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_other_encodings_of_unicode_are_read(tmp_path, encoding):
    (tmp_path / "a.jsonl").write_bytes('{"a": "é"}\r\n{"a": 2}\r\n'.encode(encoding))
    assert read_jsonl(tmp_path / "a.jsonl") == [(1, {"a": "é"}), (2, {"a": 2})]
    (tmp_path / "a.json").write_bytes('{"a": "é"}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"a": "é"}


def test_torn_utf16_is_named_and_zeros_in_front_are_not_taken_for_it(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"a": 1}'.encode("utf-16")[:-1])
    with pytest.raises(DataError, match="begins as UTF-16 text, but is none"):
        read_jsonl(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_bytes(b"\0" * 64 + b'\n{"a": 1}\n')
    assert [number for number, _ in iterate_lines(tmp_path / "a.jsonl")] == [1, 2]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_number_of_thousands_of_digits_names_the_file(tmp_path, name):
    content = '{"questions": [{"x": %s}]}' % ("1" * 5000)
    (tmp_path / name).write_text(content)
    readers = {
        "a.json": [read_json, lambda path: list(iterate_json_list(path, "questions"))],
        "a.jsonl": [read_jsonl],
    }
    for read in readers[name]:
        with pytest.raises(DataError, match=rf"{name}.*thousands of digits") as raised:
            read(tmp_path / name)
        assert "sys." not in str(raised.value)


@pytest.mark.parametrize("text", ["[{}, {}]", '[\n  {"a": 1}\n]', '{\n  "a": 1\n}'])
def test_whole_json_is_told_from_lines(tmp_path, text):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"is one JSON .* \(JSON Lines\)") as raised:
        read_jsonl(tmp_path / "a.jsonl")
    assert "Mend or remove the line" not in str(raised.value)


def test_hidden_files_are_left_out(tmp_path):
    for name in ("b.txt", "._b.txt", ".DS_Store", "a.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in visible(tmp_path.iterdir())] == ["a.txt", "b.txt"]


def test_list_of_texts_is_required():
    assert require_texts({"a": ["b", ""]}, "a", "x.json: [0]") == ("b", "")
    for odd, shown in (([1], "1"), (["b", None], "null"), ("b", "list")):
        with pytest.raises(DataError, match=rf"x\.json: \[0\]: `a` .*{shown}"):
            require_texts({"a": odd}, "a", "x.json: [0]")


def test_state_of_a_file_is_by_one_rule(tmp_path):
    """Neither package may import the other."""
    from llava.content_hash import state_of

    path = tmp_path / "file"
    path.write_text("a")
    before = file_state(path)
    assert list(before) == state_of(path.stat())
    (tmp_path / "other").write_text("b")
    os.utime(tmp_path / "other", ns=(before[1], before[1]))
    (tmp_path / "other").replace(path)
    assert file_state(path)[:2] == before[:2]
    assert file_state(path) != before
