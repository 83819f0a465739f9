"""Image features take the places of their placeholders; rows are padded and cut."""

import pytest
import torch

from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from llava.model.fusion import assign_images, fuse_row, pad_rows

IMG = IMAGE_TOKEN_INDEX
IGN = IGNORE_INDEX


def embed(ids):
    """An embedding that shows its id: (N,) to (N, 2)."""
    return torch.stack((ids.float(), -ids.float()), dim=-1)


def image(value, num_patches=2):
    """Features that show their image, (P, 2)."""
    return torch.full((num_patches, 2), float(value))


def row(*values):
    return torch.tensor(values, dtype=torch.long)


@pytest.mark.parametrize(
    ("ids", "images", "shown", "labels"),
    [
        (row(5, 6), [], [5, 6], [15, 16]),
        (row(5, IMG, 6), [image(90)], [5, 90, 90, 6], [15, IGN, IGN, 17]),
        (row(IMG), [image(90)], [90, 90], [IGN, IGN]),
        (row(IMG, 5), [image(90, 3)], [90, 90, 90, 5], [IGN, IGN, IGN, 16]),
        (row(5, IMG), [image(90, 1)], [5, 90], [15, IGN]),
        (
            row(IMG, IMG, 5, IMG),
            [image(90, 1), image(91), image(92, 1)],
            [90, 91, 91, 5, 92],
            [IGN, IGN, IGN, 17, IGN],
        ),
        (row(5, IMG, 6), [image(90, 0)], [5, 6], [15, 17]),
        (row(), [], [], []),
    ],
    ids=["text", "middle", "alone", "start", "end", "three", "empty image", "empty row"],
)
def test_placeholders_become_features_without_labels(ids, images, shown, labels):
    given = torch.arange(15, 15 + len(ids))
    embeds, fused_labels = fuse_row(ids, given, images, embed)
    assert embeds[:, 0].tolist() == shown
    assert fused_labels.tolist() == labels
    assert embeds.shape == (len(shown), 2)


@pytest.mark.parametrize("num_images", [0, 2])
def test_row_takes_exactly_its_images(num_images):
    with pytest.raises(ValueError, match="zip"):
        fuse_row(row(5, IMG), row(1, 2), [image(90)] * num_images, embed)


def test_features_take_the_dtype_of_the_embeddings():
    embeds, _ = fuse_row(row(5, IMG), row(1, 2), [image(90).half()], embed)
    assert embeds.dtype == torch.float32


def test_gradients_reach_the_features():
    features = image(90).requires_grad_()
    embeds, _ = fuse_row(row(5, IMG), row(1, 2), [features], embed)
    embeds.sum().backward()
    assert torch.equal(features.grad, torch.ones(2, 2))


@pytest.mark.parametrize(
    ("rows", "num_images", "dealt"),
    [
        ([row(IMG), row(IMG)], 2, [[0], [1]]),
        ([row(IMG, 5, IMG), row(IMG)], 3, [[0, 1], [2]]),
        ([row(IMG), row(5), row(IMG)], 3, [[0], [], [2]]),
        ([row(5), row(6)], 2, [[], []]),
        ([row(5, IMG)], 3, [[0]]),
        ([row(5)], 1, [[]]),
    ],
    ids=["one each", "two in a row", "text takes one", "text alone", "left over", "one text"],
)
def test_images_are_dealt_in_order_and_text_takes_one(rows, num_images, dealt):
    images = [image(i) for i in range(num_images)]
    assigned = assign_images(rows, images)
    assert [[int(features[0, 0]) for features in taken] for taken in assigned] == dealt


@pytest.mark.parametrize(
    ("rows", "num_images", "needed"),
    [
        ([row(IMG)], 0, 1),
        ([row(IMG), row(IMG)], 1, 2),
        ([row(IMG, IMG)], 1, 2),
        ([row(IMG), row(5)], 1, 2),
        ([row(5)], 0, 1),
    ],
)
def test_too_few_images_are_refused(rows, num_images, needed):
    images = [image(i) for i in range(num_images)]
    with pytest.raises(ValueError, match=rf"{needed} in all, but holds {num_images}\."):
        assign_images(rows, images)


ROWS = [embed(row(1, 2, 3)), embed(row(4)), embed(row(5, 6))]
LABELS = [row(11, 12, 13), row(14), row(15, 16)]


def padded(**options):
    embeds, mask, positions, labels = pad_rows(
        ROWS, LABELS, **{"padding_side": "right", "max_length": None, **options}
    )
    assert mask.dtype == torch.bool
    assert torch.equal(embeds[..., 0], -embeds[..., 1])
    return embeds[..., 0].int().tolist(), mask.int().tolist(), positions.tolist(), labels.tolist()


def test_rows_are_padded_on_the_right():
    embeds, mask, positions, labels = padded(padding_side="right")
    assert embeds == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    assert mask == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert positions == [[0, 1, 2], [0, 0, 0], [0, 1, 0]]
    assert labels == [[11, 12, 13], [14, IGN, IGN], [15, 16, IGN]]


def test_rows_are_padded_on_the_left():
    embeds, mask, positions, labels = padded(padding_side="left")
    assert embeds == [[1, 2, 3], [0, 0, 4], [0, 5, 6]]
    assert mask == [[1, 1, 1], [0, 0, 1], [0, 1, 1]]
    assert positions == [[0, 1, 2], [0, 0, 0], [0, 0, 1]]
    assert labels == [[11, 12, 13], [IGN, IGN, 14], [IGN, 15, 16]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_long_rows_lose_their_end(side):
    embeds, mask, positions, labels = padded(padding_side=side, max_length=2)
    short = [0, 4] if side == "left" else [4, 0]
    assert embeds == [[1, 2], short, [5, 6]]
    assert mask == [[1, 1], [int(value > 0) for value in short], [1, 1]]
    assert positions == [[0, 1], [0, 0], [0, 1]]
    assert labels == [[11, 12], [14 if value else IGN for value in short], [15, 16]]


def test_limit_above_the_longest_row_changes_nothing():
    assert padded(max_length=3) == padded(max_length=99) == padded(max_length=None)


def test_empty_row_is_all_padding():
    _, mask, _, labels = pad_rows(
        [ROWS[0], ROWS[0][:0]], [row(1, 2, 3), row()], padding_side="left", max_length=None
    )
    assert mask.tolist() == [[True] * 3, [False] * 3]
    assert labels[1].tolist() == [IGN] * 3


def test_other_padding_sides_are_refused():
    with pytest.raises(ValueError, match="`padding_side` must be left or right, but is 'top'"):
        padded(padding_side="top")
