"""Batches of coefficients: stacked, indexed, iterated, moved, pickled, and through a DataLoader with workers."""

import copy
import dataclasses
import pickle

import pytest
import torch
from torch.utils.data import DataLoader

import jpegrad
from corpus import COMMENT, noise, picture, pillow, tensor
from jpegrad import Coefficients
from jpegrad.spec import RGB, Color

QUALITIES = (75, 90, 95, 60)


def items(**options: object) -> list[Coefficients]:
    return [
        jpegrad.read(pillow(noise(24, 40, i), quality=quality, **options))
        for i, quality in enumerate(QUALITIES)
    ]


def same(a: Coefficients, b: Coefficients) -> bool:
    return (
        all(map(torch.equal, a.levels, b.levels))
        and torch.equal(a.tables, b.tables)
        and (a.size, a.subsampling, a.color, a.metadata, a.density)
        == (b.size, b.subsampling, b.color, b.metadata, b.density)
    )


def test_stack_and_index() -> None:
    several = items()
    batch = Coefficients.stack(several)
    assert (len(batch), batch.batch_shape, batch.tables.shape) == (4, (4,), (4, 2, 8, 8))
    decoded = jpegrad.decode(batch)
    for i, item in enumerate(several):
        assert same(batch[i], item)
        assert same(batch[i - 4], item)
        assert torch.equal(decoded[i], jpegrad.decode(item))
    assert all(map(same, batch, several))
    assert same(batch[1:3], Coefficients.stack(several[1:3]))
    assert len(batch[4:]) == 0
    assert batch[4:]
    assert same(batch[torch.tensor(2)], several[2])
    # Files of the batch are those of its items.
    assert [jpegrad.to_bytes(batch, i) for i in range(4)] == [jpegrad.to_bytes(item) for item in several]


def test_wrong_indices_raise() -> None:
    batch = Coefficients.stack(items())
    for index in (4, -5):
        with pytest.raises(IndexError, match=r"index: expected -4 to 3 for a batch of 4"):
            batch[index]
    with pytest.raises(TypeError, match="index: expected an integer or a slice"):
        batch["1"]
    single = batch[0]
    for operation in (len, iter, lambda c: c[0]):
        with pytest.raises(TypeError, match="a single image"):
            operation(single)
    assert single


def test_shared_tables_and_nested_batches() -> None:
    image = torch.rand(3, 2, 3, 16, 16)
    shared = jpegrad.encode(image, 70)
    assert shared[1].batch_shape == (2,)
    assert torch.equal(jpegrad.decode(shared)[1, 0], jpegrad.decode(shared[1][0]))
    each = jpegrad.encode(image, quality=torch.tensor([[50.0], [70.0], [90.0]]))
    assert torch.equal(jpegrad.decode(each)[2, 1], jpegrad.decode(each[2][1]))
    assert torch.equal(jpegrad.decode(Coefficients.stack(list(each))), jpegrad.decode(each))
    again = Coefficients.stack([each[0], shared[0]])
    assert torch.equal(jpegrad.decode(again)[1], jpegrad.decode(shared)[0])


def test_two_and_three_tables_stack() -> None:
    two = jpegrad.encode(torch.rand(3, 16, 16), 80)
    three = jpegrad.encode(torch.rand(3, 16, 16), tables=torch.randint(1, 99, (3, 8, 8)))
    batch = Coefficients.stack([two, three])
    assert batch.tables.shape == (2, 3, 8, 8)
    assert torch.equal(jpegrad.decode(batch)[0], jpegrad.decode(two))
    assert torch.equal(jpegrad.decode(batch)[1], jpegrad.decode(three))


def test_metadata_is_kept_where_all_have_the_same() -> None:
    assert Coefficients.stack(items(comment=COMMENT, dpi=(300, 300)))[2].metadata == ((0xFE, COMMENT),)
    assert Coefficients.stack(items(comment=COMMENT, dpi=(300, 300))).density == (300, 300, "inch")
    mixed = [*items(comment=COMMENT, dpi=(72, 72)), *items()]
    batch = Coefficients.stack(mixed)
    assert (batch.metadata, batch.density) == ((), (1, 1, ""))


def test_items_that_do_not_belong_together_raise() -> None:
    first = jpegrad.encode(torch.rand(3, 16, 16), 80)
    others = {
        "size": jpegrad.encode(torch.rand(3, 16, 24), 80),
        "channels": jpegrad.encode(torch.rand(1, 16, 16), 80),
        "subsampling": jpegrad.encode(torch.rand(3, 16, 16), 80, subsampling="4:4:4"),
        "batch_shape": jpegrad.encode(torch.rand(1, 3, 16, 16), 80),
        "value_range": jpegrad.encode(torch.rand(3, 16, 16), 80, value_range=(-1, 1)),
        "dtype": jpegrad.encode(torch.zeros(3, 16, 16, dtype=torch.uint8), 80),
        "forward": jpegrad.encode(torch.rand(3, 16, 16), 80, forward="soft"),
        "clip_slope": dataclasses.replace(first, clip_slope=0.1),
        "colour": dataclasses.replace(first, color=RGB),
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=rf"items\[1\]: expected .*{name}"):
            Coefficients.stack([first, other])
    with pytest.raises(TypeError, match=r"items\[1\]: expected Coefficients, got int"):
        Coefficients.stack([first, 5])
    with pytest.raises(ValueError, match="items: expected at least one"):
        Coefficients.stack([])
    # Equal conversions need not be the same object.
    mine = [
        dataclasses.replace(first, color=Color(torch.eye(3), torch.zeros(3), torch.eye(3))) for _ in range(2)
    ]
    assert len(Coefficients.stack(mine)) == 2


def test_the_gradient_of_a_rate_survives() -> None:
    images = [torch.rand(3, 16, 16, requires_grad=True) for _ in range(2)]
    alone = [jpegrad.encode(image, 60) for image in images]
    wanted = [torch.autograd.grad(jpegrad.bits(c), image)[0] for c, image in zip(alone, images, strict=True)]
    batch = Coefficients.stack([jpegrad.encode(image, 60) for image in images])
    found = torch.autograd.grad(jpegrad.bits(batch).sum(), images, retain_graph=True)
    assert all(map(torch.equal, found, wanted))
    assert torch.equal(torch.autograd.grad(jpegrad.bits(batch[1]), images[1])[0], wanted[1])


def test_pickles_and_copies() -> None:
    for item in (
        items()[0],
        Coefficients.stack(items(comment=COMMENT)),
        jpegrad.encode(torch.rand(3, 8, 8), 50),
    ):
        assert same(pickle.loads(pickle.dumps(item)), item)
        assert same(copy.deepcopy(item), item)


def test_to_and_pin_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Coefficients.stack(items())
    assert batch.to("meta").levels[0].device.type == "meta"
    assert same(batch.to("cpu", non_blocking=True), batch)
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x.shape) or x.clone())
    assert same(batch.pin_memory(), batch)
    assert len(pinned) == 4


class Files(torch.utils.data.Dataset):
    """Files as a training set has them."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Coefficients:
        return jpegrad.read(self.files[index], level_dtype=torch.int16)


@pytest.mark.parametrize("workers", [0, 1])
def test_through_a_data_loader(workers: int) -> None:
    files = [pillow(picture(24, 40), quality=quality) for quality in QUALITIES]
    loader = DataLoader(Files(files), batch_size=2, num_workers=workers, collate_fn=Coefficients.stack)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [2, 2]
    expected = [jpegrad.decode(jpegrad.read(file), dtype=torch.uint8) for file in files]
    found = [image for batch in batches for image in jpegrad.decode(batch, dtype=torch.uint8)]
    assert all(map(torch.equal, found, expected))
    assert tensor(picture(24, 40)).shape == found[0].shape
