"""``bits(progressive=True)``: the length of the file that ``to_bytes`` writes, and the slope of an optimized one."""

import dataclasses

import pytest
import torch

import jpegrad
from corpus import COMMENT, noise, picture, tensor
from jpegrad.entropy import coder
from jpegrad.entropy.script import simple_progression
from jpegrad.rate import bits
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import RGB

CODERS = ("native", "reference")
OWN = [((0, 1, 2), 0, 0, 0, 0), *[((i,), 1, 63, 0, 0) for i in (2, 1, 0)]]


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("mode", [*SUBSAMPLING, "gray", "RGB"])
def test_the_size_is_that_of_the_file(mode: str, coder: str, monkeypatch) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", coder)
    options = {} if mode == "gray" else {"color": RGB} if mode == "RGB" else {"subsampling": mode}
    for size in ((1, 1), (16, 16), (23, 41)):
        images = torch.stack([tensor(picture(*size)), tensor(noise(*size)), tensor(noise(*size, 1))])
        images = images[:, :1] if mode == "gray" else images
        c = jpegrad.encode(images, torch.tensor([5.0, 75.0, 100.0]), **options)
        c = dataclasses.replace(c, metadata=((0xFE, COMMENT),))
        for progressive in (True, *([] if mode == "gray" else [OWN])):
            expected = [8 * len(jpegrad.to_bytes(c, i, progressive=progressive)) for i in range(3)]
            assert bits(c, progressive=progressive).tolist() == expected
        bare = [8 * len(jpegrad.to_bytes(c, i, progressive=True, metadata=False)) for i in range(3)]
        assert bits(c, progressive=True, metadata=False).tolist() == bare


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_that_no_file_holds_count_alike_in_both_coders(dtype: torch.dtype, monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    odd = torch.tensor(
        [torch.nan, torch.inf, -torch.inf, 1e30, 0.5, 1.5, -2.5, 1023.5, 5000, -40000], dtype=dtype
    )
    levels = []
    for shape in ((3, 5, 8, 8), (2, 3, 8, 8), (2, 3, 8, 8)):
        level = 300 * torch.randn(shape, generator=generator, dtype=dtype)
        at = torch.rand(shape, generator=generator) < 0.3
        level[at] = odd[torch.randint(len(odd), (int(at.sum()),), generator=generator)]
        levels.append(level)
    script = simple_progression(3, luma_chroma=True)
    found = []
    for name in CODERS:
        monkeypatch.setenv("JPEGRAD_BACKEND", name)
        found.append(coder.progressive_bytes(levels, 24, 40, "4:2:0", script).tolist())
    assert found[0] == found[1]


def test_levels_of_integers_count(monkeypatch) -> None:
    c = jpegrad.encode(tensor(noise(24, 24)), 90)
    expected = bits(c, progressive=True)
    for dtype in (torch.int16, torch.int32, torch.int64):
        extreme = torch.iinfo(dtype).min
        whole = dataclasses.replace(c, levels=tuple(x.to(dtype) for x in c.levels))
        assert bits(whole, progressive=True) == expected
        whole.levels[0][0, 0, 3, 3] = extreme
        sizes = []
        for name in CODERS:
            monkeypatch.setenv("JPEGRAD_BACKEND", name)
            sizes.append(bits(whole, progressive=True))
        assert sizes[0] == sizes[1]
        monkeypatch.delenv("JPEGRAD_BACKEND")


def test_the_slope_is_that_of_the_optimized_file() -> None:
    image = torch.rand(2, 3, 40, 48, requires_grad=True)
    quality = torch.tensor([30.0, 80.0], requires_grad=True)
    slopes = []
    for how in ({"progressive": True}, {"huffman": "optimized"}):
        size = bits(jpegrad.encode(image, quality), **how)
        slopes.append(torch.autograd.grad(size.sum(), (image, quality)))
    assert all(map(torch.equal, *slopes))
    assert slopes[0][0].abs().sum() > 0
    # A model that is scaled to the true size is scaled to that of the progressive file.
    total = {}
    for how in ("progressive", "optimized"):
        c = jpegrad.encode(image, 80)
        size = bits(
            c, rate="sandwich", **({"progressive": True} if how == "progressive" else {"huffman": how})
        )
        total[how] = torch.autograd.grad(size.sum(), image)[0].abs().sum()
    assert total["progressive"] != total["optimized"]
    assert 0.8 < total["progressive"] / total["optimized"] < 1.2


def test_batches_and_the_transforms_of_torch() -> None:
    images = torch.rand(2, 3, 3, 24, 16)
    c = jpegrad.encode(images, 75)
    found = bits(c, progressive=True)
    assert found.shape == (2, 3) and found.dtype == torch.float64
    assert found[1, 2] == bits(jpegrad.encode(images[1, 2], 75), progressive=True)

    def size(image: torch.Tensor) -> torch.Tensor:
        return bits(jpegrad.encode(image, 75, backend="reference"), progressive=True)

    assert torch.equal(torch.func.vmap(size)(images[0]), found[0])
    empty = jpegrad.encode(torch.rand(0, 3, 16, 16), 75)
    assert bits(empty, progressive=True).shape == (0,)


@pytest.mark.whole_graph
def test_in_a_compiled_function() -> None:
    image = torch.rand(3, 24, 16)
    compiled = torch.compile(
        lambda image: bits(jpegrad.encode(image, 75, backend="reference"), progressive=True),
        backend="eager",
        fullgraph=True,
    )
    assert compiled(image) == bits(jpegrad.encode(image, 75), progressive=True)


def test_the_operator_keeps_its_promises_to_torch() -> None:
    levels = [level.contiguous() for level in jpegrad.encode(torch.rand(3, 24, 16), 75).levels]
    numbers = [3, 0, 1, 2, 0, 0, 0, 1, 1, 2, 1, 63, 0, 0]
    for slots in ([0, 1, 1], [0, 0, 0]):
        measured = (levels, 24, 16, "4:2:0", numbers, slots)
        torch.library.opcheck(torch.ops.jpegrad.progressive_bytes.default, measured)


def test_wrong_arguments() -> None:
    c = jpegrad.encode(torch.rand(3, 16, 16), 75)
    with pytest.raises(ValueError, match='huffman: expected "optimized" or None with progressive'):
        bits(c, progressive=True, huffman="default")
    with pytest.raises(ValueError, match="progressive: expected scans of every level"):
        bits(c, progressive=OWN[:2])
