"""The mirrors: small parquet files in their schemas, read through `datasets` without a network."""

import os
import pickle
from dataclasses import replace

import pytest

from evals.errors import DataError
from evals.figures.summary import summarize
from evals.reading.hub import HubLocation, HubTable, find_table
from evals.tasks.ai2d import AI2D
from evals.tasks.chartqa import ChartQA
from evals.tasks.docvqa import DocVQA
from evals.tasks.gqa import GQA
from evals.tasks.infovqa import InfoVQA
from evals.tasks.mmbench import MMBench
from evals.tasks.mme import MME
from evals.tasks.okvqa import OKVQA
from evals.tasks.pope import POPE
from evals.tasks.realworldqa import RealWorldQA
from evals.tasks.scienceqa import ScienceQA
from evals.tasks.seedbench import SeedBench
from evals.tasks.textvqa import TextVQA
from evals.tasks.vizwiz import VizWiz
from evals.tasks.vqav2 import VQAv2
from tests.evals.small_data import mmbench_rows, pope_records, seed_records, textvqa_records
from tests.evals.small_files import cell, encode, picture, put_parquet
from tests.evals.small_newer import (
    chartqa_records,
    docvqa_records,
    infovqa_records,
    okvqa_files,
    write_chartqa,
    write_docvqa,
    write_infovqa,
    write_okvqa,
)

SUFFIX = "\nAnswer the question using a single word or phrase."


def answers_of(texts):
    return [
        {"answer": text, "answer_confidence": "yes", "answer_id": n}
        for n, text in enumerate(texts, start=1)
    ]


def vqav2(folder):
    rows = [
        {
            "question_id": 420 + n,
            "image_id": 42,
            "question": "Is it red?",
            "question_type": "is it",
            "answer_type": "yes/no",
            "multiple_choice_answer": "yes",
            "answers": answers_of(["yes"] * 10),
            "image": cell(1),
        }
        for n in range(2)
    ]
    put_parquet(folder / "data/validation-00000-of-00001.parquet", rows)
    return VQAv2(data_dir=folder, split="val", source="hub"), ["yes", "yes"]


def gqa(folder):
    rows = [
        {
            "id": f"q{n}",
            "imageId": "n1",
            "question": "Is it red?",
            "answer": "yes",
            "isBalanced": True,
            "groups": {"global": None, "local": "x"},
            "entailed": "['q9']",
            "types": {"structural": "verify", "semantic": "attr", "detailed": "verifyAttr"},
            "semantic": [{"operation": "select", "argument": "car", "dependencies": []}],
            "annotations": {"question": [{"objectId": "1", "value": "car"}]},
        }
        for n in range(2)
    ]
    name = "testdev-00000-of-00001.parquet"
    put_parquet(folder / "testdev_balanced_instructions" / name, rows)
    put_parquet(folder / "testdev_balanced_images" / name, [{"id": "n1", "image": cell(1)}])
    return GQA(data_dir=folder, source="hub"), ["Yes.", "yes"]


def problem_row(number, picture):
    return {
        "image": picture,
        "question": "Which?",
        "choices": ["a", "b"],
        "answer": number,
        "hint": "",
        "subject": "natural science",
        "topic": "biology",
        "grade": "grade2",
    }


def scienceqa(folder):
    rows = [problem_row(n, cell(1) if n else None) for n in range(2)]
    put_parquet(folder / "ScienceQA-FULL/test-00000-of-00001.parquet", rows)
    return ScienceQA(data_dir=folder, source="hub"), ["A", "B"]


def textvqa(folder):
    rows = [
        {**row, "ocr_tokens": ["NOKIA"], "image": cell(n)}
        for n, row in enumerate(textvqa_records())
    ]
    put_parquet(folder / "data/validation-00000-of-00002.parquet", rows[:2])
    put_parquet(folder / "data/validation-00001-of-00002.parquet", rows[2:])
    return TextVQA(data_dir=folder, source="hub"), ["nokia", "10:08", "stop"]


def vizwiz(folder):
    rows = [
        {
            "question_id": f"VizWiz_val_{n + 7:08d}.jpg",
            "question": "what is this?",
            "answers": ["soup"] * 10,
            "category": "other",
            "image": cell(n),
        }
        for n in range(2)
    ]
    put_parquet(folder / "data/val-00000-of-00001.parquet", rows)
    return VizWiz(data_dir=folder, split="val", source="hub"), ["soup", "Soup."]


def pope(folder):
    for category in ("adversarial", "random", "popular"):
        rows = [
            {
                "question_id": str(row["question_id"]),
                "question": row["text"],
                "answer": row["label"],
                "image_source": "COCO_val2014_000000000042",
                "image": cell(1),
            }
            for row in pope_records(category)
        ]
        put_parquet(folder / f"Full/{category}-00000-of-00001.parquet", rows)
    return POPE(data_dir=folder, source="hub"), ["yes", "no"] * 3


def mme(folder):
    rows = [
        {
            "question_id": "code_reasoning/0020.png",
            "question": f"Is it {color}? Please answer yes or no.",
            "answer": label,
            "category": "code_reasoning",
            "image": cell(1),
        }
        for color, label in (("red", "Yes"), ("blue", "No"))
    ]
    put_parquet(folder / "data/test-00000-of-00001.parquet", rows)
    return MME(data_dir=folder, source="hub"), ["yes", "no"]


def mmbench(folder):
    rows = [
        {
            **{k: v for k, v in row.items() if k not in ("l2-category", "image")},
            "L2-category": row["l2-category"],
            "D": row["D"] or None,
            "image": cell(row["index"]),
        }
        for row in mmbench_rows()
    ]
    put_parquet(folder / "data/dev-00000-of-00001.parquet", rows)
    return MMBench(data_dir=folder, source="hub"), ["A", "B", "C", "B", "A"]


def seedbench(folder):
    rows = [
        {
            **row,
            "image": [cell(n), cell(n + 1), cell(n + 2)][: 3 if row["data_type"] == "video" else 1],
        }
        for n, row in enumerate(seed_records())
    ]
    put_parquet(folder / "data/test-00000-of-00001.parquet", rows)
    return SeedBench(data_dir=folder, source="hub"), ["A", "D", "B"]


def chartqa(folder):
    rows = [
        {
            "type": f"{half}_test",
            "question": record["query"],
            "answer": record["label"],
            "image": cell(1),
        }
        for half, records in chartqa_records().items()
        for record in records
    ]
    put_parquet(folder / "data/test-00000-of-00001.parquet", rows)
    return ChartQA(data_dir=folder), ["20", "yes", "0.05"]


def docvqa(folder):
    rows = [
        {**row, "questionId": str(row["questionId"]), "image": cell(n)}
        for n, row in enumerate(docvqa_records())
    ]
    put_parquet(folder / "DocVQA/validation-00000-of-00002.parquet", rows[:2])
    put_parquet(folder / "DocVQA/validation-00001-of-00002.parquet", rows[2:])
    return DocVQA(data_dir=folder), ["J. Doe", "1/8/93", "N.Y."]


def infovqa(folder):
    hidden = ("image_local_name", "evidence")
    rows = [
        {k: v for k, v in {**row, "questionId": str(row["questionId"])}.items() if k not in hidden}
        | {"image": cell(n)}
        for n, row in enumerate(infovqa_records())
    ]
    put_parquet(folder / "InfographicVQA/validation-00000-of-00001.parquet", rows)
    return InfoVQA(data_dir=folder), ["65%", "4", "red, blue"]


def okvqa(folder):
    questions, annotations = okvqa_files()
    rows = [
        {
            "question_id": str(asked["question_id"]),
            "image": cell(n),
            "question": asked["question"],
            "answers": [one["answer"] for one in said["answers"]],
            "question_type": said["question_type"],
            "answer_type": "other",
        }
        for n, (asked, said) in enumerate(
            zip(questions["questions"], annotations["annotations"], strict=True)
        )
    ]
    put_parquet(folder / "data/val2014-00000-of-00001.parquet", rows)
    return OKVQA(data_dir=folder), ["race", "collie", "1990"]


NEWER = {
    chartqa: (ChartQA, write_chartqa),
    docvqa: (DocVQA, write_docvqa),
    infovqa: (InfoVQA, write_infovqa),
    okvqa: (OKVQA, write_okvqa),
}
MIRRORS = [vqav2, gqa, scienceqa, textvqa, vizwiz, pope, mme, mmbench, seedbench, *NEWER]


@pytest.mark.parametrize("mirror", MIRRORS, ids=lambda mirror: mirror.__name__)
def test_mirror_is_asked_and_scored_like_the_files(mirror, tmp_path):
    task, right = mirror(tmp_path)
    samples = task.samples()
    assert len(samples) == len(right)
    for sample in samples:
        for source in pickle.loads(pickle.dumps(sample.images)):
            assert source.exists()
            assert source.open().height == 5
    lines = [
        {"question_id": s.question_id, "prompt": s.prompt, "text": text}
        for s, text in zip(samples, right, strict=True)
    ]
    scores = task.score(task.match(lines))
    assert [score.value for score in scores] == [1.0] * len(right)
    assert summarize(task, scores, {}).coverage == 1
    assert [path.suffix for path in task.data_files()] == [".parquet"] * len(task.data_files())
    assert task.data_files()


def test_images_that_are_here_are_among_the_files_of_gqa(tmp_path):
    places = ["testdev_balanced_instructions", "testdev_balanced_images"]
    assert [path.parent.name for path in gqa(tmp_path)[0].data_files()] == places
    (tmp_path / places[1] / "testdev-00000-of-00001.parquet").unlink()
    task = GQA(data_dir=tmp_path, source="hub")  # to be scored, answers need no images
    assert [path.parent.name for path in task.data_files()] == places[:1]


def test_validation_questions_of_gqa_are_all_of_them(tmp_path):
    gqa(tmp_path)
    for kind in ("instructions", "images"):
        place = tmp_path / f"testdev_balanced_{kind}"
        (place / "testdev-00000-of-00001.parquet").rename(place / "val-00000-of-00001.parquet")
        place.rename(tmp_path / f"val_all_{kind}")
    assert len(GQA(data_dir=tmp_path, source="hub", split="val").samples()) == 2


@pytest.mark.parametrize("mirror", NEWER, ids=lambda mirror: mirror.__name__)
def test_table_and_official_files_are_one_benchmark(mirror, tmp_path):
    build, write = NEWER[mirror]
    table, right = mirror(tmp_path / "table")
    write(tmp_path / "files")
    mirror(tmp_path / "files")  # the official files go before the table beside them
    files = build(data_dir=tmp_path / "files")
    assert [path.suffix for path in files.data_files()] == [".json"] * len(files.data_files())
    asked = [[(s.key, s.text) for s in task.samples()] for task in (table, files)]
    assert asked[0] == asked[1]
    lines = [
        {"question_id": key, "text": text} for (key, _), text in zip(asked[0], right, strict=True)
    ]
    scores = [task.score(task.match(lines)) for task in (table, files)]
    told = [[(s.key, s.value, s.answer) for s in part] for part in scores]
    assert told[0] == told[1]
    forced = build(data_dir=tmp_path / "files", source="hub")
    assert {path.suffix for path in forced.data_files()} == {".parquet"}


def test_video_gives_its_middle_frame(tmp_path):
    task, _ = seedbench(tmp_path)
    (frame,) = task.samples()[2].images
    assert frame.open().getpixel((0, 0))[0] == 3 * 37


def test_questions_about_parts_of_one_video_have_frames_of_their_own(tmp_path):
    video = seed_records()[2]
    rows = [{**video, "question_id": f"v{n}", "image": [cell(n)]} for n in (1, 2)]
    put_parquet(tmp_path / "data/test-00000-of-00001.parquet", rows)
    one, other = SeedBench(data_dir=tmp_path, source="hub", split="v1_video").samples()
    colors = [sample.images[0].open().getpixel((0, 0))[0] for sample in (one, other)]
    assert colors == [37, 2 * 37]
    assert one.image_keys != other.image_keys
    assert one.cluster == other.cluster  # the answers about one video are not independent


def test_prompts_of_the_mirror_are_those_of_the_files(tmp_path):
    task, _ = textvqa(tmp_path)
    first = task.samples()[0].text
    assert first == "What is the brand?\nReference OCR token: NOKIA" + SUFFIX
    task, _ = mmbench(tmp_path / "mmbench")
    assert task.samples()[0].prompt == "Look at\nit.\nWhich one?\nA. a frog\nB. N/A cup\nC. 7"


def test_text_only_problem_of_the_mirror_has_no_image(tmp_path):
    task, _ = scienceqa(tmp_path)
    assert [len(sample.images) for sample in task.samples()] == [0, 1]


def test_table_whose_images_cannot_be_copied_is_named(tmp_path, monkeypatch):
    """Without its images a problem would be asked as one that has none."""
    (tmp_path / "file").touch()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "file")
    task, _ = scienceqa(tmp_path / "scienceqa")
    told = "ScienceQA-FULL/test cannot be read: .*HF_DATASETS_CACHE"
    with pytest.raises(DataError, match=told):
        task.samples()
    task, _ = gqa(tmp_path / "gqa")
    (image,) = task.samples()[0].images
    assert "HF_DATASETS_CACHE" in image.refused
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "folder")
    task, _ = scienceqa(tmp_path / "scienceqa")
    assert [len(sample.images) for sample in task.samples()] == [0, 1]


def test_folder_may_have_the_characters_of_a_pattern(tmp_path):
    for name, color in (("e1", 4), ("e[1]", 5)):
        rows = [{"question": "Which?", "image": cell(color)}]
        put_parquet(tmp_path / name / "data/test-00000-of-00001.parquet", rows)
    image = find_table("t", "hub", TABLE, tmp_path / "e[1]").image(0, "a")
    assert image.open().tobytes() == picture(5).convert("RGB").tobytes()


def test_table_that_another_has_replaced_shows_its_own_images(tmp_path):
    """`tar`, `rsync -t` and `cp -p` leave files with the time that they had elsewhere."""
    path = tmp_path / "data/test-00000-of-00001.parquet"
    for color in (1, 2):
        put_parquet(path, [{"question": "Which?", "image": cell(color)}])
        os.utime(path, (10**9, 10**9))
        table = find_table("t", "hub", TABLE, tmp_path)
        assert table.image(0, "a").open().tobytes() == picture(color).convert("RGB").tobytes()
    looked_at = find_table("t", "hub", replace(TABLE, repo="its/other"), tmp_path)
    put_parquet(path, [{"question": "Another?", "image": cell(3)}])
    with pytest.raises(OSError, match="have changed since they were looked at"):
        looked_at.image(0, "a").open()


def test_mirror_that_cannot_be_had_is_named(tmp_path):
    with pytest.raises(DataError, match=r"MME/test cannot be read.*\)\. It is .*data=playground"):
        _ = HubTable(HubLocation(repo="lmms-lab/MME", split="test"), tmp_path).rows
    missing = HubTable(HubLocation(repo="lmms-lab/MME", split="test"), tmp_path).image(0, "a")
    assert not missing.exists()
    with pytest.raises(OSError, match="cannot be read"):
        missing.open()


def test_broken_parquet_file_is_a_data_error(tmp_path):
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match="cannot be read"):
        _ = HubTable(HubLocation(repo="x/y", split="test"), tmp_path).rows


@pytest.mark.parametrize(
    "build",
    [VQAv2, GQA, ScienceQA, TextVQA, VizWiz, POPE, MME, SeedBench, AI2D, ChartQA, RealWorldQA],
)
def test_unknown_source_is_refused(build, tmp_path):
    with pytest.raises(ValueError, match="`source` of"):
        build(data_dir=tmp_path, source="cloud")


def test_row_that_names_a_file_is_refused_and_keeps_its_image(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(cell(1)["bytes"])
    task, _ = scienceqa(tmp_path)
    assert not task.samples()[1].images[0].refused
    rows = [problem_row(0, {"bytes": None, "path": str(path)})]
    rows.append(problem_row(1, cell(2)))
    folder = tmp_path / "other"
    put_parquet(folder / "ScienceQA-FULL/test-00000-of-00001.parquet", rows)
    (source,) = ScienceQA(data_dir=folder, source="hub").samples()[0].images
    assert not source.exists()
    assert "names the file" in source.refused
    with pytest.raises(OSError, match="is not opened"):
        source.open()


def test_problem_ids_that_are_no_row_numbers_are_refused(tmp_path):
    task, _ = scienceqa(tmp_path)
    with pytest.raises(DataError, match="data=playground"):
        task.match([{"question_id": n, "text": "A"} for n in ("1", "21")])


@pytest.mark.parametrize("source", ["files", "hub"])
def test_images_may_be_bytes_alone(source, tmp_path):
    own = [encode(1), None, encode(2)]
    rows = [{"id": n, "image": image} for n, image in enumerate(own)]
    put_parquet(tmp_path / "data/test-00000-of-00001.parquet", rows)
    put_parquet(tmp_path / "data/listed-00000-of-00001.parquet", [{"id": 0, "image": own[:1]}])
    table = find_table("t", source, TABLE, tmp_path)
    assert [row for _, row in table.rows] == [{"id": n} for n in range(3)]
    images = [table.image(n, f"{n}") for n in range(3)]
    listed = find_table("t", source, replace(TABLE, split="listed"), tmp_path)
    assert listed.rows
    images.append(listed.image(0, "listed"))
    assert [image.exists() for image in images] == [True, False, True, True]
    assert not any(image.refused for image in images)
    assert [images[n].open().tobytes() for n in (0, 2, 3)] == [
        picture(n).convert("RGB").tobytes() for n in (1, 2, 1)
    ]


@pytest.mark.parametrize(
    "odd", ["/etc/passwd", 137, {"src": "http://host/a.png", "height": 1}, ["a.png"]]
)
def test_table_whose_images_are_none_is_refused(odd, tmp_path):
    """Its questions would be asked without their images, and nothing would say so."""
    rows = [problem_row(n, odd) for n in range(2)]
    put_parquet(tmp_path / "ScienceQA-FULL/test-00000-of-00001.parquet", rows)
    with pytest.raises(DataError, match="`image` must hold images"):
        ScienceQA(data_dir=tmp_path, source="hub").samples()


def rows_of(*shards):
    return [[{"question": f"{n}", "image": cell(n)} for n in shard] for shard in shards]


def put_shards(folder, *shards, of=None):
    for number, rows in enumerate(rows_of(*shards)):
        name = f"test-{number:05d}-of-{of or len(shards):05d}.parquet"
        put_parquet(folder / "data" / name, rows)


TABLE = HubLocation(repo="some/table", split="test")


def test_rows_are_numbered_over_all_shards(tmp_path):
    put_shards(tmp_path, range(3), range(3, 5))
    table = HubTable(TABLE, tmp_path)
    assert table.rows == [(f"some/table/test: row {n}", {"question": f"{n}"}) for n in range(5)]
    for number in (0, 4):
        assert table.image(number, "k").open().getpixel((0, 0))[0] == number * 37


def test_missing_shard_is_named(tmp_path):
    put_shards(tmp_path, range(3), of=2)
    with pytest.raises(DataError, match=r"data/test-\*-of-\*\.parquet are 1 of 2 files: number 1"):
        _ = find_table("t", "files", TABLE, tmp_path).rows
    assert len(HubTable(TABLE, tmp_path).rows) == 3  # where rows have ids
    put_shards(tmp_path, range(3), range(3, 5))
    assert len(find_table("t", "files", TABLE, tmp_path).rows) == 5
    put_shards(tmp_path, range(3))
    with pytest.raises(DataError, match="tables of 1 and 2 files"):
        _ = find_table("t", "hub", TABLE, tmp_path).rows


def test_shard_whose_name_ends_in_a_hash_is_one_too(tmp_path):
    put_shards(tmp_path, range(3), of=2)
    (path,) = tmp_path.glob("data/*.parquet")
    path.rename(path.with_name(f"{path.stem}-725687bf7a18d64b.parquet"))
    with pytest.raises(DataError, match="are 1 of 2 files: number 1"):
        _ = find_table("t", "files", TABLE, tmp_path).rows
    put_shards(tmp_path, range(3), range(3, 5))
    with pytest.raises(DataError, match="is there under two names"):
        _ = find_table("t", "files", TABLE, tmp_path).rows


def test_rows_are_read_without_datasets_and_its_copy_of_the_images(tmp_path, monkeypatch):
    import datasets

    put_shards(tmp_path, range(2))
    monkeypatch.setattr(datasets, "load_dataset", None)
    assert len(HubTable(TABLE, tmp_path).rows) == 2


def test_images_of_a_row_are_those_that_it_has(tmp_path):
    named = {"bytes": None, "path": "/etc/hostname"}
    rows = [
        {"one": cell(1), "two": None, "three": cell(3), "four": None},
        {"one": None, "two": None, "three": named, "four": None},
    ]
    put_parquet(tmp_path / "test.parquet", rows)
    columns = ("one", "two", "three", "four")
    table = HubTable(HubLocation(repo="x/y", split="test", images=columns), tmp_path)
    images = table.images_of(0, "a")
    assert [image.key for image in images] == ["a/one", "a/three"]
    assert [image.open().getpixel((0, 0))[0] for image in images] == [37, 111]
    [refused] = table.images_of(1, "b")
    assert refused.refused  # asked for and refused, rather than left out
    other = HubTable(HubLocation(repo="x/y", split="test", images=("one", "six")), tmp_path)
    with pytest.raises(DataError, match="no `six` with `bytes`"):
        other.images_of(0, "a")


def test_images_of_any_column_can_be_had(tmp_path):
    row = {"image": "images/1.jpg", "one": cell(1), "two": cell(2), "three": None}
    put_parquet(tmp_path / "biology/test-00000-of-00001.parquet", [row])
    put_parquet(tmp_path / "art/test-00000-of-00001.parquet", [{**row, "image": "0.jpg"}])
    images = ("one", "two", "three")
    place = HubLocation(repo="x/y", split="test", images=images, patterns=("*/test-*.parquet",))
    table = HubTable(place, tmp_path)
    assert [row for _, row in table.rows] == [{"image": "0.jpg"}, {"image": "images/1.jpg"}]
    found = [table.image(1, name, column=name) for name in images]
    assert [source.exists() for source in found] == [True, True, False]
    assert [source.open().getpixel((0, 0))[0] for source in found[:2]] == [37, 74]
    assert table.image(1, "a") == table.image(1, "a", column="one")
    with pytest.raises(OSError, match="no `four` with `bytes`"):
        table.image(1, "a", column="four").open()


def test_official_file_goes_before_the_table_that_lies_there(tmp_path):
    official = [tmp_path / "a.json", tmp_path / "b.json"]

    def find(source="files"):
        return find_table("t", source, TABLE, tmp_path, official)

    assert find() is None  # and the official files are missed
    put_shards(tmp_path, range(2))
    assert find().location.parquet
    official[0].touch()
    assert find() is not None
    (tmp_path / "b.json.gz").touch()
    assert find() is None
    assert find("hub") is not None
    with pytest.raises(ValueError, match="`source` of t"):
        find("cloud")


def test_table_that_does_not_lie_there_is_fetched_only_where_it_is_asked_for(tmp_path):
    table = find_table("t", "files", TABLE, tmp_path)
    assert table.data_files() == []
    with pytest.raises(
        DataError, match=r"data/test-\*\.parquet does not exist.*https://.*some/table;.*data=hub"
    ):
        _ = table.rows
    with pytest.raises(DataError, match="cannot be read"):  # there is no network
        _ = find_table("t", "hub", TABLE, tmp_path).rows


def test_table_says_that_it_serves_for_official_files():
    assert TABLE.serves_for("https://a.org") == (
        "https://a.org (data/test-*.parquet of https://huggingface.co/datasets/some/table serves "
        "as well)"
    )
    assert HubLocation(repo="x/y", config="c", split="s").places[0] == "c/s-*.parquet"
