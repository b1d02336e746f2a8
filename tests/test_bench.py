"""The instruments of the studies: what they measure on cases with a known answer, and that results survive."""

import importlib
import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from jpegrad import tables
from jpegrad.cli import app
from jpegrad_studies import (
    ablate,
    attack,
    classifiers,
    common,
    conversion,
    files,
    forward,
    gradient,
    paper,
    prefilter,
    recover,
    robust,
    speed,
    studies,
    switching,
    train,
    tune_ablate,
)
from jpegrad_studies.baselines.fsa import pillow
from jpegrad_studies.recover import annealed, descend
from jpegrad_studies.truth import file_with_tables, quality_slope, table_slopes


def test_results_go_on_where_they_stopped(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    first = common.Results(path, {"seed": 0, "sizes": (1, 2)})
    first.add("a", {"value": 1.5})
    again = common.Results(path, {"seed": 0, "sizes": (1, 2)})
    assert again.cells == {"a": {"value": 1.5}} and again.missing(["a", "b"]) == ["b"]
    assert json.loads(path.read_text())["versions"]["torch"]
    assert common.Results(path, {"seed": 1, "sizes": (1, 2)}).cells == {}
    assert [file.name for file in tmp_path.iterdir()] == ["study.json"]


@pytest.mark.parametrize("change", ["another torch", "a package added", "a package removed"])
def test_results_belong_to_the_versions_that_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    path = tmp_path / "study.json"
    common.Results(path, {"seed": 0}).add("a", 1)
    now = common.versions()
    others = {
        "another torch": {**now, "torch": "1.0"},
        "a package added": {**now, "simplejpeg": "99"},
        "a package removed": {name: each for name, each in now.items() if name != "numpy"},
    }[change]
    monkeypatch.setattr(common, "versions", lambda: others)
    later = common.Results(path, {"seed": 0})
    assert later.cells == {} and later.missing(["a"]) == ["a"]
    assert re.search(r"study\.json: computed anew.*(torch|simplejpeg|numpy)", capsys.readouterr().err)
    # Nothing is lost before there is something new, nor then.
    before = path.read_text()
    later.add("a", 2)
    assert json.loads(path.read_text())["cells"] == {"a": 2}
    assert json.loads(path.read_text())["versions"] == others
    assert (tmp_path / "study.json.old").read_text() == before
    assert common.Results(path, {"seed": 0}).cells == {"a": 2}


def test_speed_belongs_to_a_machine_and_its_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = speed.machine()
    assert here == speed.machine() and here["cpus"] == os.cpu_count()
    monkeypatch.setattr(speed.jpegrad, "__file__", str(tmp_path / "__init__.py"))
    assert speed.machine()["kernels"] != here["kernels"]


@pytest.mark.parametrize("text", ["notes", "[1, 2]", '{"name": "something"}'])
def test_a_file_that_holds_no_results_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "package.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"package\.json: expected results of a study"):
        common.Results(path, {})
    assert path.read_text() == text


def test_publish_replaces_one_section(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- begin x -->old<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n")
    common.publish("x", "new", page)
    common.publish("x", "newer", page)
    assert (
        page.read_text()
        == "a\n<!-- begin x -->\n\nnewer\n\n<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n"
    )
    with pytest.raises(ValueError, match="begin z"):
        common.publish("z", "new", page)


def test_every_quality_has_its_bin() -> None:
    counts = {name: sum(common.bin_of(q) == name for q in range(1, 100)) for name in common.BINS}
    assert list(counts.values()) == [10, 15, 25, 25, 24]


def test_bootstrap_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    covered = [low < 0 < high for low, high in (common.bootstrap(rng.normal(size=40)) for _ in range(200))]
    assert 0.88 < np.mean(covered) < 1.0


def test_slopes_of_files_fall_with_finer_tables(photograph) -> None:  # type: ignore[no-untyped-def]
    image = photograph("caps").float()[:, :64, :64]
    assert quality_slope(image, 30, "4:2:0") < 0
    base = tables.annex_k(30.0).float()
    same = pillow(image[None], torch.tensor([30.0]))[0]
    assert torch.equal(file_with_tables(image, base), same)
    assert table_slopes(image, base, "4:2:0").sum((1, 2)).min() > 0


@pytest.mark.parametrize("which", conversion.PARAMETERS)
def test_conversions_and_filters_are_those_of_their_files(photograph, which: str) -> None:  # type: ignore[no-untyped-def]
    image, parameter = common.middle(photograph("tulips"), 64), conversion.PARAMETERS[which]
    coded = conversion.decoded(parameter.coded(parameter.secret, image, 60))
    real, bits = parameter.file(parameter.secret, image, 60)
    # The codec's conversions are in fixed point, the file's planes in floating point.
    assert (coded.round() - real).abs().mean() < 0.02
    assert not torch.equal(real, parameter.file(parameter.start, image, 60)[0]) and bits % 8 == 0


def test_a_filter_is_found_from_its_file(photograph, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(conversion, "DESCENTS", {"jpegrad default": conversion.DESCENTS["jpegrad default"]})
    images = torch.stack([common.middle(photograph(name), 48) for name in ("tulips", "caps")])
    found = conversion.recover(images[:1], images[1:], 95, "filter", 15)
    assert found["the start"]["error (%)"] == 100
    assert found["jpegrad default"]["error (%)"] < 30


def test_sampled_derivatives_agree_with_the_gradient_at_fine_steps(photograph) -> None:  # type: ignore[no-untyped-def]
    image = common.middle(photograph("tulips"), 32)
    found = conversion.agreement(image, 98, "conversion", 20)["squared error to another encoder's file"]
    assert len(found["truth"]) == 9
    for name in ("jpegrad", "jpegrad soft"):
        assert abs(found[name]["cosine"] - 1) < 0.02 and abs(found[name]["size"] - 1) < 0.1


def test_other_modes_have_their_derivative_too(photograph) -> None:  # type: ignore[no-untyped-def]
    crop = common.middle(photograph("tulips"), 16)
    cell = gradient.mode_cells(crop, "4:2:2", 90, 4.0, 300)["soft"]
    assert abs(cell["cosine"] - 1) < 4 * cell["cosine_error"] + 0.02


@pytest.mark.parametrize("name", attack.ATTACKS)
def test_attacks_stay_in_their_ball_and_succeed(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(20, 236, (4, 3, 32, 32), generator=generator).float()
    readout = torch.randn(5, 3 * 32 * 32, generator=generator)

    def logits(x: torch.Tensor) -> torch.Tensor:
        return (x / 255 - 0.5).flatten(1) @ readout.T

    classes = logits(images).argmax(1)
    quality = torch.full((4,), 90.0)
    seen = attack.subjects()["no JPEG in the loop"]
    adversarial = attack.perturb(logits, seen, images, classes, quality, attack.ATTACKS[name], 4.0)
    offset = adversarial - images
    assert torch.equal(adversarial, adversarial.round())
    if attack.ATTACKS[name].norm == "inf":
        assert offset.abs().max() == 4
    else:
        assert (attack.lengths(offset) < 4 + 0.3).all()
    before = attack.judge(logits, images, classes, quality)["cross_entropy"]
    after = attack.judge(logits, adversarial, classes, quality)["cross_entropy"]
    assert np.mean(after) > np.mean(before) + 1


def test_reach_finds_more_than_one_gradient_of_the_codec(photograph) -> None:  # type: ignore[no-untyped-def]
    image = common.middle(photograph("facades"), 64)[None].clamp(20, 235)
    quality, budget = torch.tensor([10.0]), 2.0
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    gains = []
    for seen in (attack.reach, attack.narrowing()):
        x = image.clone().requires_grad_()
        (move,) = torch.autograd.grad((seen(x, quality, budget, 0.0) * weights).sum(), x)
        moved = pillow(image + budget * move.sign(), quality)
        gains.append(float(((moved - pillow(image, quality)) * weights).sum()))
        if seen is attack.reach:
            assert move.abs().max() <= budget
    assert gains[0] > 1.2 * gains[1] > 0


def test_judging_uses_the_file() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 32, 32), generator=generator).float()
    quality = torch.tensor([10.0, 80.0])
    shown = []

    def logits(x: torch.Tensor) -> torch.Tensor:
        shown.append(x)
        return x.mean((2, 3))

    attack.judge(logits, images, torch.tensor([0, 1]), quality)
    assert torch.equal(shown[0], pillow(images, quality))


@pytest.mark.parametrize("quality", (1, 10, 50, 75, 99))
def test_the_ablated_pipeline_with_nothing_missing_is_the_codec(photograph, quality: int) -> None:  # type: ignore[no-untyped-def]
    image = photograph("tulips")[:, :96, :112].float()
    real = pillow(image[None].double(), torch.tensor([float(quality)]))[0]
    assert torch.equal(ablate.code(image, quality, set()), real)
    for detail in ("8-bit YCbCr", "triangle upsampling"):
        assert not torch.equal(ablate.code(image, quality, {detail}), real)


def test_annealed_descent_finds_a_quality(photograph) -> None:  # type: ignore[no-untyped-def]
    image = photograph("facades")[:, :64, :64].float()
    target = pillow(image[None], torch.tensor([25.0]))
    q = torch.tensor([40.0], requires_grad=True)
    descend(q, lambda q, t: annealed(image[None], q, None, t), target, 30, 2.0, (1, 99))
    assert abs(round(float(q.detach())) - 25) <= 1


def test_more_pictures_go_on_where_fewer_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 32, 32), generator=generator).float()
    readout = torch.randn(5, 3 * 32 * 32, generator=generator)
    seen = []

    def logits(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return (x / 255 - 0.5).flatten(1) @ readout.T

    classes = logits(pillow(images, torch.full((8,), 50.0))).argmax(1)
    monkeypatch.setattr(attack, "BATCH", 2)
    monkeypatch.setattr(attack, "classifier", lambda model: logits)
    monkeypatch.setattr(attack, "unlabelled", lambda logits: ([str(i) for i in range(8)], images, classes))

    def options(count: int, name: str) -> Namespace:
        return Namespace(
            labelled=None,
            images=count,
            models=["lite0"],
            attacks=["PGD"],
            budgets=[2.0],
            qualities=[50],
            approaches=["fsa"],
            out=tmp_path / name,
        )

    key = "lite0/PGD/2/50/fsa"
    attack.run(options(3, "grown.json"))
    grown = attack.run(options(7, "grown.json"))
    at_once = attack.run(options(7, "at_once.json"))
    assert len(grown.cells[key]["right"]) == 7
    assert grown.cells[key] == at_once.cells[key]
    seen.clear()
    attack.run(options(5, "grown.json"))
    assert not seen


def test_gains_are_paired_on_what_both_rows_have() -> None:
    short = {5: {"right": [0, 1], "cross_entropy": [3.0, 1.0]}}
    long = {
        5: {"right": [1, 1, 1], "cross_entropy": [1.0, 0.5, 9.0]},
        18: {"right": [1], "cross_entropy": [0.0]},
    }
    assert attack.gains(short, long).tolist() == [2.0, 0.5]
    assert attack.gain(short, long, [18]) == "–"
    assert attack.counts(long) == "1 … 3"
    assert attack.beside(short, long, 5).endswith("; 1 : 2 of 2") and attack.beside(short, long, 18) == "–"


def test_the_summary_pairs_ours_with_the_reference_and_the_best(tmp_path: Path) -> None:
    results = common.Results(tmp_path / "attack.json", {})
    losses = {
        attack.OURS: [5.0, 7.0],
        "reich_ste": [3.0, 4.0, 9.0],
        "fsa": [1.0, 9.0],
        "jpegrad reach": [9.0, 9.0],
    }
    for name, values in losses.items():
        results.add(f"lite1/PGD/2/38/{name}", {"right": [0] * len(values), "cross_entropy": values})
    results.add("lite1/PGD/4/38/reich_ste", {"right": [0], "cross_entropy": [1.0]})
    _, reference, best = attack.summary(results).split("\n\n")
    assert reference.splitlines()[-1] == "| lite1, PGD | +2.50 [+2.00, +3.00] of 2 | – |"
    assert best.splitlines()[-1] == "| lite1, PGD | +1.00 [-2.00, +4.00] of 2 fsa | – |"


def test_folding_changes_no_answer() -> None:
    torch.manual_seed(0)

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._conv_stem = torch.nn.Conv2d(3, 8, 3, bias=False)
            self._conv_stem.static_padding = torch.nn.ZeroPad2d((1, 1, 1, 1))
            self._bn0 = torch.nn.BatchNorm2d(8)
            self._swish = torch.nn.ReLU6()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self._swish(self._bn0(self._conv_stem(self._conv_stem.static_padding(x))))

    block = Block()
    for _ in range(20):
        block(3 + 2 * torch.randn(4, 3, 9, 9))
    block.eval()
    x = 3 + 2 * torch.randn(2, 3, 9, 9)
    before = block(x)
    folded = classifiers.fold(block)
    assert isinstance(folded._bn0, torch.nn.Identity)
    torch.testing.assert_close(folded(x), before, rtol=1e-5, atol=1e-5)


def test_networks_start_as_the_identity_and_training_moves_them() -> None:
    x = torch.rand(1, 3, 16, 16) * 255
    assert torch.equal(prefilter.Residual()(x), x)
    image = next(iter(common.load_images(None, 1).values()))[:, :128, :128]
    coder = recover.image_subjects()["jpegrad"]
    assert set(prefilter.train(coder, [image], 0, 0).values()) == {0.0}
    trained = prefilter.train(coder, [image], 3, 0)
    assert any(abs(change) > 1e-6 for change in trained.values())
    assert trained == prefilter.train(coder, [image], 3, 0)


def test_the_command_lists_every_study_and_hands_its_options_over() -> None:
    arguments, path = list(sys.argv), list(sys.path)
    runner = CliRunner()
    listed = runner.invoke(app, ["bench"]).output
    assert all(study in listed for study in (*STUDIES, "paper", "rate", "speed"))
    help_of_study = runner.invoke(app, ["bench", "attack", "--help"])
    assert help_of_study.exit_code == 0 and "usage: jpegrad bench attack" in help_of_study.output
    assert "study: expected one of ablate" in str(runner.invoke(app, ["bench", "nothing"]).exception)
    assert (arguments, path) == (sys.argv, sys.path)


def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    monkeypatch.delitem(sys.modules, "jpegrad_studies.ablate")
    error = CliRunner().invoke(app, ["bench", "ablate"]).exception
    assert isinstance(error, OSError)
    assert "ablate needs the package skimage.metrics: pip install 'jpegrad[studies]'" in str(error)
    # The extra does not bring what belongs to jpegrad itself.
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "jpegrad.stages", None)
    monkeypatch.delitem(sys.modules, "jpegrad_studies.ablate")
    error = CliRunner().invoke(app, ["bench", "ablate"]).exception
    assert isinstance(error, ModuleNotFoundError) and error.name == "jpegrad.stages"


def test_every_study_takes_its_options_as_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for study in studies():
        module = importlib.import_module(f"jpegrad_studies.{study}")
        with pytest.raises(SystemExit, match=r"^0$"):
            module.main(["--help"])
        assert f"usage: jpegrad bench {study} " in capsys.readouterr().out


def test_what_the_ablation_leaves_out_makes_other_files(photograph) -> None:  # type: ignore[no-untyped-def]
    image = photograph("coast")[:, :64, :96].contiguous()
    alike = set(tune_ablate.VARIANTS) - {tune_ablate.WHOLE}
    for metric in tune_ablate.METRICS:
        whole = tune_ablate.cell(image, metric, tune_ablate.WHOLE, 3)
        alike &= {name for name in alike if tune_ablate.cell(image, metric, name, 3) == whole}
    assert not alike


@pytest.mark.slow
def test_the_studies_run_from_an_installed_package(tmp_path: Path) -> None:
    """What `build_py` puts into a wheel, in a place that knows no checkout."""
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(site)]
    subprocess.run(build, cwd=common.ROOT, check=True, capture_output=True, timeout=300)
    assert {path.name for path in site.iterdir()} == {"_jpegrad_command.py", "jpegrad", "jpegrad_studies"}
    script = "import jpegrad; print(jpegrad.__file__); from jpegrad.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", script, "bench", "ablate", "--limit", "1", "--no-attack"],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert str(site) in result.stdout and "all real" in result.stdout, result.stderr
    assert (work / "studies" / "results" / "ablate.json").is_file()


STUDIES = {
    "forward": forward.tables,
    "attack": attack.tables,
    "gradient": gradient.report,
    "ablate": ablate.report,
    "recover": recover.report,
    "train": train.tables,
    "robust": robust.tables,
    "conversion": conversion.report,
}


@pytest.mark.parametrize("study", STUDIES)
def test_the_published_tables_are_those_of_the_results(study: str) -> None:
    path = common.RESULTS / f"{study}.json"
    if not path.exists():
        pytest.skip(f"no results of {study}")
    stored = json.loads(path.read_text())
    results = common.Results(path, stored["settings"], stored["versions"])
    assert STUDIES[study](results) in common.COMPARISON.read_text()


def test_forward_study_prints_exact_for_the_codec(tmp_path: Path) -> None:
    results = common.Results(tmp_path / "forward.json", {"images": ["one"]})
    image = common.load_images(None, 1)
    one = next(iter(image.values()))[:, :64, :64]
    for name in ("jpegrad",):
        cell = forward.compare(forward.OURS[name], one, 40)
        assert cell == {"psnr": None, "ssim": 1.0, "differing": 0.0, "differing_opencv": 0.0}
        results.add(f"{name}/40", {"one": cell})
    assert "exact" in forward.tables(results)


def test_the_small_studies_go_on_and_foretell_the_full_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = paper.Study(("--limit", "1", "--no-attack"), "--images DIR", 7200)
    began = []

    def run(command: list[str], **options: object) -> None:
        began.append(command)
        Path(command[-1]).write_text("{}")

    monkeypatch.setattr(paper, "STUDIES", {"ablate": small})
    monkeypatch.setattr(paper.subprocess, "run", run)
    paper.main([str(tmp_path / "paper")])
    assert began[0][1:6] == ["-m", "jpegrad_studies.ablate", "--limit", "1", "--no-attack"]
    assert "jpegrad bench ablate --images DIR" in (told := capsys.readouterr().out) and "about " in told
    paper.main([str(tmp_path / "paper")])
    assert began[1] == began[0] and "about " not in capsys.readouterr().out


def test_every_small_study_has_its_module() -> None:
    assert set(paper.STUDIES) <= set(studies())


def test_the_page_on_switching_has_what_was_measured() -> None:
    path = common.RESULTS / "switching.json"
    stored = json.loads(path.read_text())
    results = common.Results(path, stored["settings"], stored["versions"])
    assert list(results.cells) == list(switching.SWITCHES)
    assert switching.table(results) in switching.PAGE.read_text()


def test_switching_times_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kornia")
    monkeypatch.setattr(switching, "one_thread", lambda: None)
    monkeypatch.setattr(switching, "SHAPES", ((2, 32), (1, 16)))
    chosen = {name: switch for name, switch in switching.SWITCHES.items() if "kornia" in switch.theirs}
    absent = switching.SWITCHES["MBRS `Jpeg`"]._replace(theirs="no_such_project")
    monkeypatch.setattr(switching, "SWITCHES", {**chosen, "absent": absent})
    out = tmp_path / "switching.json"
    switching.main(["--rounds", "1", "--out", str(out)])
    cells = json.loads(out.read_text())["cells"]
    assert list(cells) == list(chosen)
    assert all(seconds > 0 for cell in cells.values() for pair in cell.values() for seconds in pair)
    assert "absent: left out" in capsys.readouterr().out


@pytest.mark.slow
def test_the_study_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "SIZES", {"tiny": (40, 56)})
    monkeypatch.setattr(files, "keep_freed_memory", lambda: None)
    threads = torch.get_num_threads()
    files.main(["--quick", "--out", str(tmp_path / "files.json")])
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    for job in ("read levels, q 95", "code pixels, q 75, progressive", "rotate, lossless"):
        row, *memory = re.findall(rf"\| {job} \| ([0-9.]+)[; ]", printed)
        assert float(row) > 0 and len(memory) == 1
    assert "tiny, bytes per pixel" in printed and "to_bytes_batch" in printed


def test_another_build_of_a_package_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "opencv-python":
            raise common.PackageNotFoundError(name)
        return "5.1"

    monkeypatch.setattr(common, "version", version)
    assert common.installed("opencv-python-headless") and not common.installed("kornia")
    assert common.versions()["opencv-python"] == "5.1"
