import hashlib
import json
import subprocess
import sys

import pytest

from evals.demo import DEMO_SPLIT, ensure_demo_data
from evals.demo.generate import SeedSpace
from evals.records import Prediction
from evals.tasks.gqa import GQA
from evals.tasks.scienceqa import ScienceQA
from evals.tasks.vqav2 import VQAv2


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return ensure_demo_data(tmp_path_factory.mktemp("demo"))


def tasks_of(root):
    return {
        "vqav2": VQAv2(data_dir=root / "vqav2", split=DEMO_SPLIT),
        "gqa": GQA(data_dir=root / "gqa", split=DEMO_SPLIT),
        "scienceqa": ScienceQA(data_dir=root / "scienceqa", split=DEMO_SPLIT),
    }


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def image_digests(root):
    return {digest for name, digest in digests(root).items() if name.endswith((".jpg", ".png"))}


def predictions_of(samples, answer):
    return {
        s.key: Prediction(key=s.key, question_id=s.question_id, prompt=s.prompt, text=answer(s))
        for s in samples
    }


def most_frequent_target(sample):
    if isinstance(sample.target, str):
        return sample.target
    return max(sample.target, key=sample.target.count)


def test_sizes_are_the_documented_ones(data_root):
    counts = {name: len(task.samples()) for name, task in tasks_of(data_root).items()}
    assert counts == {"vqav2": 300, "gqa": 372, "scienceqa": 120}


@pytest.mark.parametrize(("name", "per_image"), [("vqav2", 5), ("gqa", 31), ("scienceqa", 1)])
def test_questions_share_images_in_the_real_proportions(data_root, name, per_image):
    samples = [sample for sample in tasks_of(data_root)[name].samples() if sample.images]
    assert len(samples) == per_image * len({sample.image_keys for sample in samples})


def test_every_image_is_there_and_opens_as_rgb(data_root):
    for task in tasks_of(data_root).values():
        images = {image.key: image for sample in task.samples() for image in sample.images}
        for image in images.values():
            opened = image.open()
            assert (opened.mode, opened.size) == ("RGB", (48, 48))


def test_right_answers_get_full_scores_from_the_official_scorers(data_root):
    for name, task in tasks_of(data_root).items():
        predictions = predictions_of(task.samples(), most_frequent_target)
        metrics = task.aggregate(task.score(predictions)).metrics
        assert metrics[task.primary_metric] > (0.98 if name == "vqav2" else 0.999), name


def test_annotators_disagree_on_some_questions_only(data_root):
    samples = tasks_of(data_root)["vqav2"].samples()
    unanimous = sum(len(set(sample.target)) == 1 for sample in samples)
    assert 0.4 < unanimous / len(samples) < 0.7


def test_all_figures_of_gqa_that_need_no_attention_are_numbers(data_root):
    task = tasks_of(data_root)["gqa"]
    scores = task.score(predictions_of(task.samples(), lambda sample: sample.target))
    metrics = task.aggregate(scores).metrics
    for name in ("binary", "open", "consistency", "validity", "plausibility"):
        assert metrics[name] == pytest.approx(1.0), name
    assert metrics["distribution"] == pytest.approx(0.0)


def test_every_row_of_the_scienceqa_table_has_questions(data_root):
    task = tasks_of(data_root)["scienceqa"]
    scores = task.score(predictions_of(task.samples(), lambda sample: sample.target))
    metrics = task.aggregate(scores).metrics
    for row in ("NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12"):
        assert metrics[row] == 1.0, row


def test_official_headers_are_written(data_root):
    folder = data_root / "vqav2"
    questions = json.loads((folder / "v2_OpenEnded_mscoco_demo_questions.json").read_text())
    annotations = json.loads((folder / "v2_mscoco_demo_annotations.json").read_text())
    header = {"info", "license", "data_type", "data_subtype"}
    assert set(questions) == header | {"task_type", "questions"}
    assert set(annotations) == header | {"annotations"}
    assert questions["data_subtype"] == DEMO_SPLIT


def test_equal_arguments_give_equal_bytes(tmp_path):
    first = ensure_demo_data(tmp_path / "a", num_images=2, seed=5)
    second = ensure_demo_data(tmp_path / "b", num_images=2, seed=5)
    assert digests(first) == digests(second)


def test_more_pictures_leave_the_ones_before_as_they_are(tmp_path):
    small = image_digests(ensure_demo_data(tmp_path, num_images=1))
    large = image_digests(ensure_demo_data(tmp_path, num_images=2))
    assert small < large


def test_size_seed_and_purpose_each_have_a_folder_of_their_own(tmp_path):
    roots = {
        ensure_demo_data(tmp_path, num_images=1),
        ensure_demo_data(tmp_path, num_images=2),
        ensure_demo_data(tmp_path, num_images=1, seed=1),
        ensure_demo_data(tmp_path, num_images=1, space=SeedSpace.TRAINING),
    }
    assert len(roots) == 4
    assert {path.name for path in tmp_path.iterdir()} == {root.name for root in roots}


def test_training_and_evaluation_share_no_picture(tmp_path):
    seen = [
        image_digests(ensure_demo_data(tmp_path, num_images=3, seed=seed, space=space))
        for space in SeedSpace
        for seed in (0, 1)
    ]
    assert sum(map(len, seen)) == len(set().union(*seen))


def test_existing_data_are_used_as_they_are(tmp_path):
    root = ensure_demo_data(tmp_path, num_images=1)
    marker = root / "gqa" / "marker"
    marker.touch()
    assert ensure_demo_data(tmp_path, num_images=1) == root
    assert marker.exists()


@pytest.mark.slow
def test_processes_that_generate_at_once_agree(tmp_path):
    program = (
        "import sys; from pathlib import Path; from evals.demo import ensure_demo_data; "
        "print(ensure_demo_data(Path(sys.argv[1]), num_images=6))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "shared")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    (root,) = outputs
    assert digests(tmp_path / "shared" / root.rsplit("/", 1)[-1]) == digests(
        ensure_demo_data(tmp_path / "alone", num_images=6)
    )
    assert len(list((tmp_path / "shared").iterdir())) == 1


@pytest.mark.parametrize("arguments", [{"num_images": 0}, {"seed": -1}])
def test_sizes_and_seeds_out_of_range_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ensure_demo_data(tmp_path, **arguments)
