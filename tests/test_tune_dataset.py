"""Base tables for all qualities: learned over folders, on several processes, resumed; what is checked before."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

import jpegrad
from jpegrad import tune
from jpegrad.cli import app
from jpegrad.cli import main as cli
from jpegrad.commands.learning import learn_folder
from jpegrad.tune.dataset import _Learner

torch.set_num_threads(1)


SETTINGS = tune.DatasetSettings(steps=4, batch=3, qualities=(40, 75), crop=48, seed=5)
ARGUMENTS = ["--steps", "4", "--batch", "3", "-q", "40", "-q", "75", "--crop", "48", "--seed", "5"]


def test_base_tables_are_learned_and_resumed(folder: Path, tmp_path: Path) -> None:
    costs: list[float] = []
    whole = tune.learn_dataset_tables(
        folder, settings=SETTINGS, progress=lambda step, cost: costs.append(cost)
    )
    # Annex K itself, but for entries that the logarithm moves across a tie of the scaling.
    assert costs[0] == pytest.approx(1, abs=0.02)
    assert not torch.equal(whole, torch.tensor(jpegrad.tables.ANNEX_K).float())
    images = [tune.Folder(folder)[i] for i in range(5)]
    assert torch.equal(whole, tune.learn_dataset_tables(images, settings=SETTINGS))

    class Interrupted(Exception):
        pass

    def interrupt(step: int, cost: float) -> None:
        if step == 2:
            raise Interrupted

    checkpoint = tmp_path / "state"
    with pytest.raises(Interrupted):
        tune.learn_dataset_tables(folder, settings=SETTINGS, checkpoint=checkpoint, progress=interrupt)
    assert checkpoint.exists()
    with pytest.raises(ValueError, match="checkpoint: expected one of these images, settings and metric"):
        tune.learn_dataset_tables(folder, settings=replace(SETTINGS, seed=6), checkpoint=checkpoint)
    steps: list[int] = []
    resumed = tune.learn_dataset_tables(
        folder, settings=SETTINGS, checkpoint=checkpoint, progress=lambda step, cost: steps.append(step)
    )
    assert steps == [3, 4]
    assert torch.equal(resumed, whole)
    # The caller has yet to save the result.
    assert checkpoint.exists()
    checkpoint.write_text("{}")
    with pytest.raises(ValueError, match="checkpoint: expected a file that learn_dataset_tables saved"):
        tune.learn_dataset_tables(folder, settings=SETTINGS, checkpoint=checkpoint)


@pytest.mark.parametrize("flat", [torch.full((3, 32, 32), 0.37), torch.ones(3, 32, 32)])
def test_images_without_detail_among_others(photo: Tensor, flat: Tensor) -> None:
    settings = tune.DatasetSettings(steps=2, batch=2, qualities=(50,))
    costs: list[float] = []
    tables = tune.learn_dataset_tables(
        [photo[:, :32, :32], flat], settings=settings, progress=lambda step, cost: costs.append(cost)
    )
    assert np.isfinite(costs).all()
    assert not torch.equal(tables, torch.tensor(jpegrad.tables.ANNEX_K).float())
    alone = tune.learn_dataset_tables([torch.ones(3, 32, 32)], settings=settings)
    assert torch.equal(alone, torch.tensor(jpegrad.tables.ANNEX_K).float())


@pytest.fixture
def mixed(folder: Path, tmp_path: Path) -> Path:
    """The five pictures of ``folder`` among one that is no picture and one that is cut off."""
    path = tmp_path / "mixed"
    shutil.copytree(folder, path)
    (path / "broken.png").write_bytes(b"no picture")
    (path / "below" / "cut.png").write_bytes((path / "0.png").read_bytes()[:3000])
    return path


def test_pictures_that_cannot_be_used_are_left_out(mixed: Path) -> None:
    with pytest.warns(UserWarning, match="left out: ") as caught:
        tables = tune.learn_dataset_tables(mixed, settings=SETTINGS)
    messages = [str(each.message) for each in caught]
    assert len(messages) == 3 and messages[-1] == "left out: 2 of 7 pictures"
    for name in ("broken.png", "cut.png"):
        assert sum(f"{mixed}" in line and f"{name}: " in line for line in messages) == 1
    assert not torch.equal(tables, torch.tensor(jpegrad.tables.ANNEX_K).float())
    with pytest.warns(UserWarning):
        shared = tune.learn_image_tables(tune.Folder(mixed), steps=1)
    left = tune.Folder(mixed)
    left.paths = [path for path in left.paths if path.name not in ("broken.png", "cut.png")]
    assert torch.equal(shared, tune.learn_image_tables(left, steps=1))


def test_pictures_too_small_for_the_metric(tmp_path: Path, photo: Tensor) -> None:
    whole = Image.fromarray(photo.permute(1, 2, 0).numpy())
    whole.save(tmp_path / "whole.png")
    whole.crop((0, 0, 176, 175)).save(tmp_path / "small.png")
    settings = tune.DatasetSettings(steps=1, batch=3, crop=0)
    with pytest.warns(UserWarning) as caught:
        tables = tune.learn_dataset_tables(tmp_path, metric="ms-ssim", settings=settings)
    assert [str(each.message) for each in caught] == [
        f"left out: {tmp_path / 'small.png'}: images: expected sides of at least 176 for MS-SSIM, got [175, 176]",
        "left out: 1 of 2 pictures",
    ]
    # The other one takes its place, at the quality of the place.
    stream = [photo] * 2
    assert torch.equal(tables, tune.learn_dataset_tables(stream, metric="ms-ssim", settings=settings))
    with pytest.raises(ValueError, match="crop: expected pieces that suit the metric, got 64"):
        tune.learn_dataset_tables(tmp_path, metric="ms-ssim", settings=replace(settings, crop=64))
    with pytest.raises(ValueError, match="images: expected sides of at least 176"):
        tune.learn_dataset_tables([photo, photo[:, :9]], metric="ms-ssim", settings=settings)
    (tmp_path / "whole.png").unlink()
    with (
        pytest.warns(UserWarning, match=r"small\.png"),
        pytest.raises(ValueError, match="expected a picture that can be used, got none among 1"),
    ):
        tune.learn_dataset_tables(tmp_path, metric="ms-ssim", settings=settings)


@pytest.mark.filterwarnings("default:left out")
def test_interrupted_with_the_keyboard(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tables.json"
    command = ["tune-dataset", str(mixed), "-o", str(output), "--steps", "4", "--batch", "3", "--crop", "48"]
    monkeypatch.setattr(sys, "argv", ["jpegrad", *command])
    save = _Learner.save

    def interrupt(learner: _Learner, path: Path) -> None:
        save(learner, path)
        if learner.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_Learner, "save", interrupt)
        with pytest.raises(SystemExit) as left:
            cli()
    assert left.value.code == 130
    lines = capfd.readouterr().err.splitlines()
    assert (
        f"interrupted: {output}.checkpoint keeps what is learned so far; the same call goes on from there"
        in lines
    )
    assert any(line.startswith("warning: left out: ") and "cut.png" in line for line in lines)
    with contextlib.suppress(SystemExit):
        cli()
    assert "warning: left out: 2 of 7 pictures" in capfd.readouterr().err.splitlines()
    with pytest.warns(UserWarning):
        whole = tune.learn_dataset_tables(mixed, settings=tune.DatasetSettings(steps=4, batch=3, crop=48))
    assert torch.equal(jpegrad.tables.load(output), whole)


def test_a_checkpoint_belongs_to_its_metric_and_images(tmp_path: Path) -> None:
    images = [torch.rand(3, 176, 176, generator=torch.Generator().manual_seed(0))]
    settings = tune.DatasetSettings(steps=1, batch=1)
    checkpoint = tmp_path / "state"
    first = tune.learn_dataset_tables(images, metric=tune.mix(0.35), settings=settings, checkpoint=checkpoint)
    again = tune.learn_dataset_tables(images, metric=tune.mix(0.35), settings=settings, checkpoint=checkpoint)
    assert torch.equal(first, again)
    with pytest.raises(ValueError, match="checkpoint"):
        tune.learn_dataset_tables(images, metric=tune.mix(0.9), settings=settings, checkpoint=checkpoint)
    with pytest.raises(ValueError, match="checkpoint"):
        other = [torch.rand(3, 180, 176)]
        tune.learn_dataset_tables(other, metric=tune.mix(0.35), settings=settings, checkpoint=checkpoint)


def test_in_inference_mode(photo: Tensor) -> None:
    settings = tune.DatasetSettings(steps=1, batch=1)
    image = photo[:, :32, :32] / 255
    base = torch.tensor(jpegrad.tables.ANNEX_K, dtype=torch.float32)

    def call(image: Tensor, base: Tensor) -> list[Tensor]:
        tuned = [
            tune.compress(image, base=base, choose_levels=choose, steps=1).tables for choose in (True, False)
        ]
        return [
            *tuned,
            tune.learn_image_tables(image, steps=1),
            tune.learn_dataset_tables([image], settings=settings),
        ]

    expected = call(image, base)
    with torch.inference_mode():
        found = call(image.clone(), base.clone())
        assert torch.is_inference_mode_enabled()
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b) and not a.is_inference()


def test_a_result_that_cannot_be_saved_keeps_its_checkpoint(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "tables.json"

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(jpegrad.tables, "save", full)
    with pytest.raises(OSError, match="no space left"):
        learn_folder(folder, output, settings=SETTINGS)
    assert json.loads((tmp_path / "tables.json.checkpoint").read_text())["step"] == SETTINGS.steps


def test_outputs_are_checked_before_the_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("jpegrad.commands.learning.learn_dataset_tables", work)
    monkeypatch.setattr("jpegrad.commands.tuning.compress", work)
    for output in (tmp_path, tmp_path / "missing" / "x.json"):
        with pytest.raises(ValueError, match="output: expected the name of a file in an existing folder"):
            learn_folder(folder, output)
    command = ["tune", str(folder / "0.png"), "-o", str(tmp_path / "missing" / "x.jpg")]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, ValueError) and "output" in str(done.exception)


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99"])
def test_devices_that_are_not_there(folder: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(ValueError, match="device: expected"):
        learn_folder(folder, tmp_path / "x.json", device=device)
    command = ["tune-dataset", str(folder), "-o", str(tmp_path / "x.json"), "--device", device]
    assert str(CliRunner().invoke(app, command).exception).startswith("device: expected")


def test_settings_are_checked(folder: Path, tmp_path: Path) -> None:
    for wrong in ({"batch": 2.0}, {"steps": 1.5}, {"crop": 64.0}, {"seed": True}, {"learning_rate": "fast"}):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            tune.DatasetSettings(**wrong)  # type: ignore[arg-type]
    for wrong in ({"learning_rate": float("nan")}, {"subsampling": "4:2:1"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            tune.DatasetSettings(**wrong)  # type: ignore[arg-type]
    command = ["tune-dataset", str(folder), "-o", str(tmp_path / "x.json"), "--steps", "0"]
    assert str(CliRunner().invoke(app, command).exception).startswith("steps: expected at least 1")


def test_folders_hold_more_than_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("._seen.png", "seen.png", ".hidden/other.png"):
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    pictures = tune.Folder(tmp_path)
    assert [path.name for path in pictures.paths] == ["seen.png"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"seen\.png"):
        pictures[0]


def test_nothing_of_a_picture_is_lost_without_a_word(tmp_path: Path, photo: Tensor) -> None:
    image = photo[:, :40, :40].permute(1, 2, 0).numpy()
    see_through = Image.fromarray(np.dstack([image, np.full((40, 40), 9, np.uint8)]))
    Image.fromarray(image).convert("RGBA").save(tmp_path / "0_opaque.png")
    Image.fromarray(image[..., 0]).save(tmp_path / "1_gray.png")
    see_through.save(tmp_path / "2_alpha.png")
    Image.fromarray(image[..., 0].astype(np.uint16) * 257).save(tmp_path / "3_deep.png")
    Image.fromarray(image).convert("CMYK").save(tmp_path / "4_cmyk.tif")
    Image.fromarray(image[..., 0].astype(np.float32)).save(tmp_path / "5_float.tif")
    pictures = tune.Folder(tmp_path)
    assert torch.equal(pictures[0], photo[:, :40, :40])
    assert torch.equal(pictures[np.int64(1)], photo[:1, :40, :40].expand(3, 40, 40))
    for index, reason in ((2, "transparency"), (3, "16 bits"), (4, "CMYK"), (5, "mode F")):
        with pytest.raises(ValueError, match=rf"{index}_\w+\.\w+: expected .*{reason}"):
            pictures[index]
    with pytest.raises(TypeError, match="slice"):
        pictures[:2]
    settings = tune.DatasetSettings(steps=1, batch=6)
    with pytest.warns(UserWarning, match="left out") as caught:
        tune.learn_dataset_tables(pictures, settings=settings)
    assert str(caught[-1].message) == "left out: 4 of 6 pictures"


def test_shipped_tables_go_by_the_plain_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jpegrad.tables.save("mse", jpegrad.tables.annex_k(50))
    for local in ("./mse", Path("./mse"), Path("mse")):
        assert torch.equal(jpegrad.tables.load(local), jpegrad.tables.annex_k(50))
    assert not torch.equal(jpegrad.tables.load("mse"), jpegrad.tables.annex_k(50))


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def launch(*arguments: str) -> None:
    """Two processes of torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(port), *arguments]
    # A session of its own, so that no worker outlives a test that fails.
    launched = subprocess.Popen(
        command, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, errors = launched.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(launched.pid, signal.SIGKILL)
    assert launched.returncode == 0, errors


def test_two_processes_equal_one(mixed: Path, tmp_path: Path) -> None:
    output = tmp_path / "two.json"
    launch("-m", "jpegrad", "tune-dataset", str(mixed), "-o", str(output), *ARGUMENTS)
    with pytest.warns(UserWarning, match="left out"):
        alone = tune.learn_dataset_tables(mixed, settings=SETTINGS)
    assert torch.equal(jpegrad.tables.load(output), alone)


NODE = """
import sys
from pathlib import Path
import torch
from torch import distributed
from jpegrad import tables, tune

folder, work = map(Path, sys.argv[1:])
distributed.init_process_group("gloo")
here = work / str(distributed.get_rank())
here.mkdir(exist_ok=True)
settings = tune.DatasetSettings(steps=4, batch=3, qualities=(40, 75), crop=48, seed=5)
steps = []
learned = tune.learn_dataset_tables(
    folder, settings=settings, checkpoint=here / "state", progress=lambda step, cost: steps.append(step)
)
assert steps == [3, 4], steps
tables.save(here / "tables.json", learned)
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_the_checkpoint_of_the_first_node_is_for_all(folder: Path, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(step: int, cost: float) -> None:
        if step == 2:
            raise Interrupted

    (tmp_path / "0").mkdir()
    with pytest.raises(Interrupted):
        tune.learn_dataset_tables(
            folder, settings=SETTINGS, checkpoint=tmp_path / "0" / "state", progress=interrupt
        )
    (tmp_path / "node.py").write_text(NODE)
    launch(str(tmp_path / "node.py"), str(folder), str(tmp_path))
    whole = tune.learn_dataset_tables(folder, settings=SETTINGS)
    for node in "01":
        assert torch.equal(jpegrad.tables.load(tmp_path / node / "tables.json"), whole)


def test_killed_and_started_again(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "tables.json"
    checkpoint = tmp_path / "tables.json.checkpoint"
    arguments = ["tune-dataset", str(folder), "-o", str(output), *ARGUMENTS, "--steps", "12"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jpegrad", *arguments], env=environment(), stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        if checkpoint.exists() and json.loads(checkpoint.read_text())["step"] >= 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    assert json.loads(checkpoint.read_text())["step"] < 12
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert not checkpoint.exists()
    expected = tune.learn_dataset_tables(folder, settings=replace(SETTINGS, steps=12))
    assert torch.equal(jpegrad.tables.load(output), expected)
    assert json.loads(output.read_text())["metric"] == "mse"
