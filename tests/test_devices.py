"""Devices that are neither the CPU nor CUDA's, and have no float64: every call works there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

import jpegrad
from jpegrad.home import at_home, constants, home, moved

TESTS = Path(__file__).parent


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch cannot make a device in Python",
)
def test_every_call_on_a_second_device() -> None:
    # A process has one such device, for good.
    code = "import second_device; second_device.install(); import devices_script; devices_script.main()"
    paths = os.pathsep.join([str(TESTS), *sys.path])
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:jpegrad", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize(
    ("device", "where"),
    [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("meta", "meta"), ("mps", "cpu"), ("xpu:0", "cpu")],
)
def test_where_tensors_are_coded(device: str, where: str) -> None:
    assert home(torch.device(device)) == torch.device(where)


def test_constants_come_to_a_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr("jpegrad.home._far", lambda device: True)
    with torch.inference_mode():
        first = constants(((1.0, 2.0),), torch.float64, cpu)
    assert constants(((1.0, 2.0),), torch.float64, cpu) is first
    assert constants(((1.0, 2.0),), torch.float32, cpu).dtype is torch.float32
    (torch.ones(2, dtype=torch.float64, requires_grad=True) * first).sum().backward()
    # What PyTorch's tracers and transforms make is theirs.
    with FakeTensorMode():
        assert constants(((1.0, 2.0),), torch.float64, cpu) is not first
    torch.func.grad(lambda x: (x * constants(((3.0,),), torch.float32, cpu)).sum())(torch.ones(1))
    assert constants(((3.0,),), torch.float32, cpu).tolist() == [[3.0]]


def test_records_move_as_a_whole() -> None:
    coefficients = jpegrad.encode(torch.rand(2, 3, 16, 16), 50)
    there = moved(coefficients, lambda tensor: tensor.to("meta"))
    assert type(there) is jpegrad.Coefficients and there.size == (16, 16)
    assert {x.device.type for x in (*there.levels, there.tables, *there.unrounded)} == {"meta"}
    color = moved(jpegrad.Color(torch.eye(3)), lambda tensor: 2 * tensor)
    assert isinstance(color, jpegrad.Color) and color.matrix.sum() == 6
    assert moved(coefficients, lambda tensor: tensor) is coefficients


def test_what_is_at_home_is_passed_on_as_it_is() -> None:
    seen: list[object] = []
    given = [torch.ones(1), {"a": 1}]
    at_home(lambda *args, **kwargs: seen.extend((*args, kwargs["c"])))(*given, c=given)
    assert seen[0] is given[0] and seen[1] is given[1] and seen[2] is given
