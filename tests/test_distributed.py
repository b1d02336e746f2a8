"""Two processes train one model, its tables among the parameters, as one process does with both shares."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import Tensor, nn

import jpegrad

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without torch.distributed"),
    pytest.mark.skipif(sys.platform == "win32", reason="gloo's files are those of other systems"),
]


def model() -> nn.Module:
    torch.manual_seed(0)
    tables = nn.Parameter(jpegrad.tables.annex_k(30))
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid(), jpegrad.nn.JPEG(tables=tables))


def pictures() -> Tensor:
    return torch.rand(4, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def gradients(wrapped: nn.Module, images: Tensor) -> list[Tensor]:
    (wrapped(images) - images).square().mean().backward()
    found = [parameter.grad for parameter in wrapped.parameters()]
    return [
        each.full_tensor() if hasattr(each, "full_tensor") else each for each in found if each is not None
    ]


def train(rank: int, folder: str, kind: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2
    )
    wrapped = model()
    if kind == "ddp":
        wrapped = nn.parallel.DistributedDataParallel(wrapped)
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(wrapped, mesh=init_device_mesh("cpu", (2,)))
    torch.save(gradients(wrapped, pictures()[2 * rank : 2 * rank + 2]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_have_the_gradients_of_one(kind: str, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(train, (str(tmp_path), kind), nprocs=2)
    expected = gradients(model(), pictures())
    assert len(expected) == 3
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
