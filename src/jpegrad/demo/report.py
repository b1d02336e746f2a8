"""The report: one HTML file without anything from outside."""

from datetime import date
from html import escape
from importlib.metadata import version

from jpegrad import __version__, page
from jpegrad.demo import figures
from jpegrad.demo.study import SHOWN, Results


def html(results: Results) -> str:
    """The page."""
    summary = "".join(f"<li>{escape(line)}</li>" for line in results.summary())
    body = f"""<h1>The JPEG codec, inside autograd</h1>
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
{page.plot(figures.quality_slopes(results.slopes), "gradient to the quality")}
<h2>The gradient to the quantization tables</h2>
<p>Of the coding error at quality 50, per table entry (thousandths of a squared grey level per step).</p>
{page.plot(_table_gradients(results), "gradient to both tables")}
<h2>A use: what was this picture coded with?</h2>
<p>Given an original and a JPEG of it, descent through the real codec finds the quality, and the tables. An entry under
which all levels are zero leaves no trace in the picture; the others are bold.</p>
{page.plot(figures.recoveries(results.quality, results.tables), "recovery")}
{_found(results)}"""
    return page.html("jpegrad: the JPEG codec, inside autograd", body)


def _made() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "pillow"))
    return f"Made on {date.today().isoformat()} with jpegrad {__version__}, {versions}."


def _pictures(results: Results) -> str:
    rows = [row for row in results.fidelity if row.photograph == SHOWN and row.subsampling == "4:2:0"]
    coded = [
        page.figure(
            page.picture(row.picture), f"quality {row.quality}: {row.size:,} bytes, {row.psnr:.1f} dB"
        )
        for row in rows
    ]
    return f'<div class="row">{page.figure(page.picture(results.original), "original")}{"".join(coded)}</div>'


def _fidelity(results: Results) -> str:
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
    rows = [
        (
            row.photograph,
            row.subsampling,
            str(row.quality),
            f"{row.samples:,}",
            f'<span class="{"not" if row.different else "zero"}">{row.different}</span>',
            f"{row.psnr:.2f}",
            f"{row.size:,}",
            "yes" if row.same_bytes else "no",
        )
        for row in results.fidelity
    ]
    return page.table("coded photographs", heads, rows)


def _gradients(results: Results) -> str:
    shown = [page.figure(page.picture(page.gradient(g)), name) for name, g in results.image_gradients.items()]
    return f'<div class="row">{"".join(shown)}</div>'


def _table_gradients(results: Results) -> str:
    return figures.tables(1000 * results.table_gradients, ("luminance", "chrominance"), ".1f")


def _found(results: Results) -> str:
    recovery = results.tables
    titles = ("luminance: found − secret", "chrominance: found − secret")
    difference = figures.tables(recovery.found - recovery.secret, titles, ".0f", recovery.determined)
    return page.plot(difference, "tables found")
