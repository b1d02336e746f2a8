"""Pages of HTML that need nothing from outside: their style, pictures inside of them, two pictures under a slider.

They follow the light or dark of the system, and fit a phone. ``style.css`` and ``slider.js`` stand beside this module.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

FOLDER = Path(__file__).parent


def html(title: str, body: str, *, script: str = "") -> str:
    """A whole page around a body of HTML."""
    code = f"<script>{script}</script>" if script else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{source("style.css")}</style></head><body>
<main>
{body}
</main>
{code}</body></html>
"""


def source(name: str) -> str:
    """A file beside this module: ``style.css`` or ``slider.js``."""
    return (FOLDER / name).read_text(encoding="utf-8")


def png(image: Tensor, profile: bytes | None = None, *, effort: int = 6) -> bytes:
    """A uint8 picture ``[C, H, W]``, C = 3 or 1, as a file, with its ICC profile; ``effort`` is zlib's, 0…9."""
    pixels = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
        buffer, "PNG", icc_profile=profile, compress_level=effort
    )
    return buffer.getvalue()


def data_url(data: bytes, kind: str = "png") -> str:
    """A picture's file as the address of an ``<img>``."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def picture(image: Tensor) -> str:
    """A uint8 picture ``[C, H, W]`` as the address of an ``<img>``."""
    return data_url(png(image))


def gradient(values: Tensor) -> Tensor:
    """A gradient ``[C, H, W]`` as a picture: gray is 0, its 99th percentile full scale."""
    magnitude = float(np.quantile(values.abs().numpy(), 0.99)) or 1.0
    return ((values / magnitude).clamp(-1, 1) * 127 + 128).byte()


def figure(image: str, caption: str) -> str:
    """A picture, by its address, over words."""
    words = escape(caption)
    return f'<figure><img alt="{words}" src="{image}"><figcaption>{words}</figcaption></figure>'


def plot(image: str, words: str) -> str:
    """A drawing on white, by its address; the dark of a page turns it dark."""
    return f'<img class="plot" alt="{escape(words)}" src="{image}">'


def slider(first: str, second: str, names: tuple[str, str]) -> str:
    """Two pictures of one size, by their addresses, one over the other; needs ``slider.js`` on the page."""
    one, two = (escape(name) for name in names)
    return f"""<figure class="slider">
<div class="layers"><img class="first" alt="{one}" src="{first}"><img class="second" alt="{two}" src="{second}"></div>
<input type="range" min="0" max="100" value="50" aria-label="where {one} ends and {two} begins">
<figcaption><span>{one}</span>
<button type="button" class="apart" aria-pressed="false">difference × 8</button><span>{two}</span></figcaption>
</figure>"""


def table(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of HTML cells under words, the first of each row its head; a narrow page scrolls it, not itself.

    Its ``name`` is for those who hear it.
    """
    names = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    top = f"<thead><tr>{names}</tr></thead>" if heads else ""
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}"><table>'
        f"{top}<tbody>{body}</tbody></table></div>"
    )
