"""The parts of a file add up to its size, and each is what a sequential coder would count."""

import dataclasses

import pytest
import torch

import jpegrad
from corpus import COMMENT, noise, picture, tensor
from jpegrad.entropy.huffman import DEFAULT
from jpegrad.rate import Breakdown, breakdown
from jpegrad.sampling import SUBSAMPLING
from jpegrad.tables import ZIGZAG

HUFFMAN = ("default", "optimized")


def assert_adds_up(coefficients: jpegrad.Coefficients, huffman: str) -> Breakdown:
    parts = breakdown(coefficients, huffman=huffman)
    assert torch.equal(parts.total.double(), jpegrad.bits(coefficients, huffman=huffman))
    for field in dataclasses.fields(parts):
        values = getattr(parts, field.name)
        assert values.dtype == torch.int64
        assert values.shape[: len(coefficients.batch_shape)] == coefficients.batch_shape
        assert (values >= 0).all()
    return parts


@pytest.mark.parametrize("huffman", HUFFMAN)
@pytest.mark.parametrize("mode", SUBSAMPLING)
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (40, 7)])
def test_the_parts_add_up_to_the_size(size: tuple[int, int], mode: str, huffman: str) -> None:
    for pixels, quality in ((picture(*size), 60), (noise(*size), 98)):
        coefficients = jpegrad.encode(tensor(pixels), quality, subsampling=mode)
        parts = assert_adds_up(coefficients, huffman)
        data = jpegrad.to_bytes(coefficients, huffman=huffman)
        scan = data[data.index(b"\xff\xda") + 14 : -2]
        assert parts.stuffing == 8 * scan.count(b"\xff\x00")
        assert parts.headers == 8 * (len(data) - len(scan))
        assert parts.padding < 8


@pytest.mark.parametrize("huffman", HUFFMAN)
def test_gray_and_batches(huffman: str) -> None:
    images = torch.stack([tensor(noise(24, 16, seed)) for seed in range(6)]).view(2, 3, 3, 24, 16)
    quality = torch.tensor([[5.0, 50.0, 75.0], [90.0, 95.0, 100.0]])
    gray = images[..., :1, :, :]
    for coefficients in (jpegrad.encode(images, quality), jpegrad.encode(gray, quality)):
        parts = assert_adds_up(coefficients, huffman)
        assert parts.coefficients.shape == (2, 3, coefficients.channels, 8, 8)
        alone = breakdown(jpegrad.encode(images[1, 0], 90.0), huffman=huffman)
        if coefficients.channels == 3:
            assert torch.equal(parts.coefficients[1, 0], alone.coefficients)
            assert torch.equal(parts.end_of_block[1, 0], alone.end_of_block)


def test_metadata_is_a_part_of_its_own() -> None:
    plain = jpegrad.encode(tensor(picture(16, 16)), 75)
    parts = assert_adds_up(dataclasses.replace(plain, metadata=((0xFE, COMMENT),)), "default")
    assert parts.metadata == 8 * (4 + len(COMMENT))
    assert parts.headers == breakdown(plain).headers


def counted(levels: list[torch.Tensor]) -> tuple[torch.Tensor, list[int]]:
    """Bits per place and of EOB of a 4:4:4 picture with the tables of Annex K, block by block."""
    spent, ends = torch.zeros(len(levels), 8, 8, dtype=torch.int64), [0] * len(levels)
    for i, component in enumerate(levels):
        dc, ac = DEFAULT[2 * (i > 0)].codes(), DEFAULT[2 * (i > 0) + 1].codes()
        previous = 0
        for block in component.reshape(-1, 64).int().tolist():
            size = abs(block[0] - previous).bit_length()
            spent[i, 0, 0] += dc[size][1] + size
            previous, run = block[0], 0
            for natural in ZIGZAG[1:]:
                if block[natural] == 0:
                    run += 1
                    continue
                size = abs(block[natural]).bit_length()
                bits = run // 16 * ac[0xF0][1] + ac[run % 16 << 4 | size][1] + size
                spent[i, natural // 8, natural % 8] += bits
                run = 0
            ends[i] += ac[0][1] if run else 0
    return spent, ends


@pytest.mark.parametrize("quality", [10, 75, 100])
def test_every_bit_is_where_a_sequential_coder_counts_it(quality: int) -> None:
    # Sizes of whole blocks: nothing is interleaved but single blocks, and nothing is padded.
    coefficients = jpegrad.encode(tensor(picture(32, 24)), quality, subsampling="4:4:4")
    # A lone level far into a block: three ZRL before it.
    levels = [level.clone() for level in coefficients.levels]
    levels[1][0, 0] = 0
    levels[1][0, 0, 7, 6] = -3
    coefficients = dataclasses.replace(coefficients, levels=tuple(levels))
    parts = assert_adds_up(coefficients, "default")
    spent, ends = counted(levels)
    assert torch.equal(parts.coefficients, spent)
    assert parts.end_of_block.tolist() == ends


def test_wrong_arguments() -> None:
    coefficients = jpegrad.encode(torch.zeros(1, 8, 8), 75)
    with pytest.raises(ValueError, match=r"huffman: expected one of .*, got 'best'"):
        breakdown(coefficients, huffman="best")
    with pytest.raises(TypeError, match="coefficients: expected Coefficients, got Tensor"):
        breakdown(coefficients.levels[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("huffman", HUFFMAN)
@pytest.mark.parametrize("mode", ["gray", "4:4:4", "4:2:0", "4:1:1", "1x1,2x2,2x1", "3x1,1x1,1x1"])
def test_strips_of_an_image_count_what_the_whole_counts(
    monkeypatch: pytest.MonkeyPatch, mode: str, huffman: str
) -> None:
    images = torch.stack([tensor(picture(59, 83)), tensor(noise(59, 83))])
    images = images[:, :1] if mode == "gray" else images
    coefficients = jpegrad.encode(images, 80, subsampling=None if mode == "gray" else mode)
    short = dataclasses.replace(coefficients, levels=tuple(x.short() for x in coefficients.levels))
    expected = assert_adds_up(coefficients, huffman)
    for at_once in (1, 20_000):
        monkeypatch.setitem(breakdown.__globals__, "COEFFICIENTS_AT_ONCE", at_once)
        for each in (coefficients, short):
            found = assert_adds_up(each, huffman)
            for field in dataclasses.fields(expected):
                assert torch.equal(getattr(found, field.name), getattr(expected, field.name)), field.name
