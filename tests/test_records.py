"""Records as values: mixtures of fields are themselves on every backend; equal records are equal, copied ones too."""

import copy
import io
import itertools
import multiprocessing
import pickle
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import formulas, surrogates
from jpegrad.backends import native, reference
from jpegrad.spec import Spec
from jpegrad.surrogates import Formula, Surrogate
from kernel_cases import NATIVE, TOLERANCE, Kernel, close, compare_gradients, law, spec
from kernel_cases import OWN as COSINE
from kernel_cases import results as outcome

native_only = NATIVE.marks[0]

OWN = Surrogate(
    "cubic",  # A name that the kernels know, of functions that they do not.
    lambda u, step, component: u + torch.cos(u) / 9,
    lambda u, step, component: 1 - torch.sin(u) / 9,
    "this test",
)
RECORDS = {
    **surrogates.ALL,
    "gaussian 5": surrogates.gaussian(5.0),
    "soft_round 2": surrogates.soft_round(2.0),
    "own": OWN,
}
# Random numbers are the same on no two backends, nor in two calls.
SMOOTH = [name for name in RECORDS if name != "noise"]
# Of the soft forward as in test_native_soft.py.
TOLERANCES = {"exact": TOLERANCE, "soft": 5e-4}


def picture(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, shape[1], 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, shape[-2:], mode="bilinear")
    # Off the clamps, where a rounding of float32 would decide about a slope.
    return 0.1 + 0.6 * smooth + 0.2 * torch.rand(shape, generator=generator)


def results(backend: object, chosen: Spec, device: torch.device | str = "cpu") -> list[Tensor]:
    """The coded picture, and the gradients to picture and tables."""
    entries = jpegrad.tables.annex_k(60, dtype=torch.float64)
    return outcome(backend, picture(1, 3, 17, 24).to(device), entries.to(device), chosen)


def compare(chosen: Spec, kernel: Kernel = NATIVE) -> None:
    found, expected = (results(backend, chosen, kernel.device) for backend in (kernel.backend, reference))
    for a, b in zip(found, expected, strict=True):
        # Behind a soft identity the tables have no gradient but float32's rounding.
        close(a, b, TOLERANCES[chosen.forward], least=1e-3)


# Interpreted kernels have the mixtures below.
@law("name", RECORDS, few=())
def test_the_exact_forward_has_the_slope_that_a_record_holds(kernel: Kernel, name: str) -> None:
    for other in RECORDS:
        mixed = replace(RECORDS[name], slope=RECORDS[other].slope)
        tables = replace(RECORDS[other], slope=RECORDS[name].slope)
        compare(Spec(surrogate=mixed, table_surrogate=tables), kernel)


# The exact forward sees slopes alone: a name says nothing, a parameter belongs to its function.
SIN, WIDE, NOISE = surrogates.sin, surrogates.gaussian(8.0), surrogates.noise
MIXED = {
    "cubic with the sine's": replace(surrogates.cubic, slope=SIN.slope),
    "own with the cubic's name": replace(COSINE, name="cubic"),
    "gaussian with another's width": replace(surrogates.gaussian(2.0), slope=WIDE.slope),
    "own with a width": replace(COSINE, slope=surrogates.table_gaussian(0.3).slope),
    "noise with a function": replace(NOISE, slope=surrogates.soft_round(2.0).slope),
    "a soft function for a slope": replace(SIN, slope=surrogates.cubic.soft),
}


@law("name", MIXED)
def test_mixtures(kernel: Kernel, name: str) -> None:
    # Beside the next one, as the tables see it.
    names = list(MIXED)
    other = MIXED[names[(names.index(name) + 1) % len(names)]]
    chosen = spec("gray", surrogate=MIXED[name], table_surrogate=other)
    compare_gradients(kernel, kernel.picture(1, 1, 16, 16), kernel.tables(40), chosen)


@native_only
@pytest.mark.parametrize("name", RECORDS)
def test_the_soft_forward_has_the_function_that_a_record_holds(name: str) -> None:
    for other in SMOOTH:
        mixed = replace(RECORDS[name], soft=RECORDS[other].soft)
        chosen = Spec(forward="soft", surrogate=mixed)
        known = other not in ("table_gaussian", "table_relative", "own")
        reasons = native.unsupported("jpeg", picture(1, 3, 8, 8), chosen)
        assert bool(reasons) is not known, (name, other, reasons)
        if known:
            compare(chosen)
        else:
            assert "soft functions of identity, cubic" in reasons[0]


@native_only
def test_a_slope_is_no_soft_function_and_the_other_way_round() -> None:
    swapped = replace(surrogates.sin, soft=surrogates.cubic.slope, slope=surrogates.cubic.soft)
    compare(Spec(surrogate=swapped))
    assert native.unsupported("jpeg", picture(1, 3, 8, 8), Spec(forward="soft", surrogate=swapped))


@native_only
@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_names_sources_and_parameters_of_formulas(forward: str) -> None:
    wide = surrogates.gaussian(8.0)
    narrow = surrogates.gaussian(2.0)
    renamed = replace(surrogates.sin, name="cubic", source="another")
    moved = replace(
        narrow,
        slope=replace(narrow.slope, parameters=(8.0,)),
        soft=replace(narrow.soft, parameters=(8.0,)),
    )
    assert moved == wide
    for record, same in ((renamed, surrogates.sin), (moved, wide)):
        compare(Spec(forward=forward, surrogate=record))
        found, expected = (results(native, Spec(forward=forward, surrogate=r)) for r in (record, same))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.raises(TypeError, match="parameter"):
        replace(narrow, parameter=8.0)  # type: ignore[call-arg]


@native_only
def test_a_formula_of_another_function_or_with_other_parameters_is_not_the_kernels() -> None:
    mine = Formula(OWN.slope)
    compare(Spec(surrogate=replace(surrogates.cubic, slope=mine)))
    without = replace(surrogates.gaussian(), slope=Formula(formulas.gaussian_slope))
    for backend in (native, reference):
        with pytest.raises(TypeError, match="argument"):
            results(backend, Spec(surrogate=without))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("backend", jpegrad.backends.ORDER[1:])
@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.whole_graph
def test_mixtures_compile_to_one_graph(backend: str, forward: str) -> None:
    if backend == "native" and native.missing():
        pytest.skip("no native kernel here")
    mixed = replace(
        surrogates.sin, slope=surrogates.gaussian(3.0).slope, soft=surrogates.soft_round(4.0).soft
    )

    def loss(image: Tensor) -> Tensor:
        out = jpegrad.jpeg(image, 30, surrogate=mixed, forward=forward, backend=backend)
        return out.square().sum()

    torch._dynamo.reset()
    image = picture(1, 1, 8, 8).requires_grad_()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(*(torch.autograd.grad(f(image), image)[0] for f in (compiled, loss)))
    torch._dynamo.reset()


def test_presets_share_the_cubics_functions() -> None:
    for preset in (surrogates.reich2024, surrogates.reich2024_ste):
        assert preset.slope is surrogates.cubic.slope
        assert preset.soft is surrogates.cubic.soft
    assert surrogates.noise.slope is surrogates.identity.slope


MAKERS = [surrogates.soft_round, surrogates.gaussian, surrogates.table_gaussian, surrogates.table_relative]
EVERY = [*surrogates.ALL.values(), *(make(1.5) for make in MAKERS)]
every = pytest.mark.parametrize("record", EVERY, ids=lambda r: f"{r.name} {r.slope.parameters}")


@every
def test_records_pickle_copy_and_hash(record: Surrogate) -> None:
    for twin in (pickle.loads(pickle.dumps(record)), copy.deepcopy(record), copy.copy(record)):
        assert twin == record and hash(twin) == hash(record)
        assert all(getattr(twin, field.name) == getattr(record, field.name) for field in fields(record))


def test_records_are_equal_when_their_fields_are() -> None:
    for make in MAKERS:
        assert make(1.0) == make(1.0) and make(1.0) != make(2.0)
        assert make() == surrogates.ALL[make.__name__]
        assert len({make(1.0), make(1.0), make(2.0)}) == 2
    assert all(a != b for a, b in itertools.combinations(surrogates.ALL.values(), 2))


@every
def test_layers_with_records_are_saved(record: Surrogate) -> None:
    layer = jpegrad.nn.JPEG(50, surrogate=record)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert loaded.options == layer.options


def gradient_norm(layer: torch.nn.Module) -> float:
    image = picture(1, 3, 16, 16).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(image).square().sum(), image)
    return float(gradient.norm())


def test_layers_with_records_go_to_spawned_workers() -> None:
    layers = [
        jpegrad.nn.JPEG(50, surrogate=r) for r in (surrogates.gaussian(1.0), surrogates.soft_round(5.0))
    ]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(gradient_norm, layers)
    assert found == pytest.approx([gradient_norm(layer) for layer in layers], rel=1e-5)


def test_what_tables_see_is_a_field_of_its_own() -> None:
    assert surrogates.reich2024.table == surrogates.reich2024_ste.table == surrogates.cubic
    floors = replace(surrogates.sin, floor=surrogates.reich2024_ste.floor)
    assert jpegrad.spec.resolve(surrogate=floors).table_surrogate == surrogates.distortion
    own = replace(surrogates.sin, table=surrogates.dead_zone)
    assert jpegrad.spec.resolve(surrogate=own).table_surrogate == surrogates.dead_zone
    assert jpegrad.spec.resolve(surrogate=own, table_surrogate="sin").table_surrogate == surrogates.sin
    assert jpegrad.spec.resolve(surrogate="reich2024_ste").table_surrogate == surrogates.cubic


def public_records() -> dict[str, object]:
    """One of each public class of values, with tensors wherever there may be some."""
    image = torch.rand(3, 16, 16)
    coefficients = jpegrad.encode(image, 50)
    data = jpegrad.to_bytes(coefficients)
    return {
        "Coefficients": coefficients,
        "Color": jpegrad.Color(torch.eye(3)),
        "Decoder": jpegrad.Decoder(),
        "Surrogate": surrogates.gaussian(2.0),
        "ProgressiveScan": jpegrad.ProgressiveScan((0,), 0, 0),
        "Header": jpegrad.read_header(data),
        "Structure": jpegrad.read_structure(data),
        "Breakdown": jpegrad.rate.breakdown(coefficients),
        "RateModel": jpegrad.rate.ALL["marginal"],
        "DatasetSettings": jpegrad.tune.DatasetSettings(),
        "Metric": jpegrad.tune.mix(),
        "Bytes": jpegrad.tune.Bytes(300),
        "Tuned": jpegrad.tune.compress(image, steps=0),
        "SampledGradient": jpegrad.testing.SampledGradient(torch.rand(3, 4, 4)),
        "SurrogateReport": jpegrad.testing.check_surrogate(surrogates.cubic),
        "JPEG": jpegrad.nn.JPEG(),
        "RandomJPEG": jpegrad.nn.RandomJPEG(),
    }


def test_a_record_is_shown_on_one_line() -> None:
    for name, record in public_records().items():
        shown = repr(record)
        assert shown.startswith(f"{name}(") and shown.endswith(")")
        assert "\n" not in shown and "tensor(" not in shown
    assert repr(surrogates.gaussian(2.0).slope) == "gaussian_slope(2.0)"
    assert repr(jpegrad.Color(torch.eye(3))).startswith("Color(matrix=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]")
