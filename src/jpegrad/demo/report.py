"""The report: one HTML file without anything from outside."""

from datetime import date
from html import escape
from importlib.metadata import version

from jpegrad import __version__
from jpegrad.demo import figures
from jpegrad.demo.study import SHOWN, Results

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: light-dark(#222, #ddd); background: light-dark(#fff, #1e2129); }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
img { max-width: 100%; } figure { margin: 0; } figcaption { font-size: 0.85rem; color: light-dark(#555, #aaa); }
.row { display: flex; flex-wrap: wrap; gap: 0.8rem; } .row figure { flex: 1 1 11rem; max-width: 22rem; }
.row img { width: 100%; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
td, th { padding: 0.15rem 0.9rem; text-align: right; border-bottom: 1px solid #8886; }
td:first-child, th:first-child { text-align: left; } .zero { color: light-dark(#18794e, #4ec38a); font-weight: bold; }
.not { color: light-dark(#c00, #ff7b7b); font-weight: bold; }
"""


def html(results: Results) -> str:
    """The page."""
    summary = "".join(f"<li>{escape(line)}</li>" for line in results.summary())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>jpegrad: the JPEG codec, inside autograd</title>
<style>{STYLE}</style></head><body><main>
<h1>The JPEG codec, inside autograd</h1>
<p>All is well where no sample and no file differs from Pillow's, the sign of d(error)/d(quality) is right throughout,
and the secret quality is found. {_made()}</p>
<ul>{summary}</ul>
<h2>The forward is the real JPEG</h2>
<p>Every picture below is what <code>jpegrad.jpeg</code> returns, and equals what Pillow decodes from the file that it
writes. The file that jpegrad writes is the same, byte for byte.</p>
{_pictures(results)}
{_fidelity(results)}
<h2>The gradient to the image</h2>
<p>Of the local contrast of the coded picture at quality 20, with respect to the original. Gray is zero. The default is
the derivative of the real JPEG averaged over pixel noise of σ = 2 grey levels.</p>
{_gradients(results)}
<h2>The gradient to the quality</h2>
<p>Of the coding error, at every integer quality, against the change of the real file's error over q ± 2. Where a curve
is missing, the gradient is zero or has the wrong sign.</p>
<img alt="gradient to the quality" src="{figures.quality_slopes(results.slopes)}">
<h2>The gradient to the quantization tables</h2>
<p>Of the coding error at quality 50, per table entry (thousandths of a squared grey level per step).</p>
<img alt="gradient to both tables" src="{_table_gradients(results)}">
<h2>A use: what was this picture coded with?</h2>
<p>Given an original and a JPEG of it, descent through the real codec finds the quality, and the tables. An entry under
which all levels are zero leaves no trace in the picture; the others are bold.</p>
<img alt="recovery" src="{figures.recoveries(results.quality, results.tables)}">
{_found(results)}
</main></body></html>
"""


def _made() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "pillow"))
    return f"Made on {date.today().isoformat()} with jpegrad {__version__}, {versions}."


def _figure(image: str, caption: str) -> str:
    return f'<figure><img alt="{escape(caption)}" src="{image}"><figcaption>{escape(caption)}</figcaption></figure>'


def _pictures(results: Results) -> str:
    rows = [row for row in results.fidelity if row.photograph == SHOWN and row.subsampling == "4:2:0"]
    coded = [
        _figure(figures.picture(row.picture), f"quality {row.quality}: {row.size:,} bytes, {row.psnr:.1f} dB")
        for row in rows
    ]
    return f'<div class="row">{_figure(figures.picture(results.original), "original")}{"".join(coded)}</div>'


def _fidelity(results: Results) -> str:
    body = "".join(
        f"<tr><td>{row.photograph}</td><td>{row.subsampling}</td><td>{row.quality}</td><td>{row.samples:,}</td>"
        f'<td class="{"not" if row.different else "zero"}">{row.different}</td><td>{row.psnr:.2f}</td>'
        f"<td>{row.size:,}</td><td>{'yes' if row.same_bytes else 'no'}</td></tr>"
        for row in results.fidelity
    )
    heads = (
        "photograph",
        "mode",
        "quality",
        "samples",
        "differ from Pillow",
        "PSNR, dB",
        "bytes",
        "same bytes",
    )
    head = "".join(f"<th>{one}</th>" for one in heads)
    return f'<div class="scroll" tabindex="0"><table><tr>{head}</tr>{body}</table></div>'


def _gradients(results: Results) -> str:
    shown = [
        _figure(figures.picture(figures.gradient(g)), name) for name, g in results.image_gradients.items()
    ]
    return f'<div class="row">{"".join(shown)}</div>'


def _table_gradients(results: Results) -> str:
    return figures.tables(1000 * results.table_gradients, ("luminance", "chrominance"), ".1f")


def _found(results: Results) -> str:
    recovery = results.tables
    titles = ("luminance: found − secret", "chrominance: found − secret")
    difference = figures.tables(recovery.found - recovery.secret, titles, ".0f", recovery.determined)
    return f'<img alt="tables found" src="{difference}">'
