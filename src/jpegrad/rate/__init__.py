"""The size of the file: exact bits, and models of it that have a slope."""

from jpegrad.rate.breakdown import Breakdown as Breakdown
from jpegrad.rate.breakdown import breakdown as breakdown
from jpegrad.rate.marginal import marginal_costs as marginal_costs
from jpegrad.rate.models import ALL as ALL
from jpegrad.rate.models import RateModel as RateModel
from jpegrad.rate.models import Scan as Scan
from jpegrad.rate.size import bits as bits

__all__ = ["ALL", "Breakdown", "RateModel", "Scan", "bits", "breakdown", "marginal_costs"]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
