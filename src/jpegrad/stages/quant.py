"""Quantisation (T.81 A.3.4; libjpeg-turbo ``jcdctmgr.c``): round half away from zero."""

from torch import Tensor

from jpegrad.surrogates import Component, Surrogate, evaluate, straight_through


def quantize_exact(coefficients: Tensor, table: Tensor) -> Tensor:
    """Levels: sign(c)·floor((|c| + table/2) / table), of coefficients that are multiples of 1/8."""
    return coefficients.sign() * ((8 * coefficients.abs() + 4 * table) / (8 * table)).floor()


def quantize(
    coefficients: Tensor,
    table: Tensor,
    component: Component,
    surrogate: Surrogate,
    table_surrogate: Surrogate,
) -> Tensor:
    """Exact levels; the image sees the slope of one surrogate, the table that of the other."""
    level = quantize_exact(coefficients.detach(), table.detach())
    u = (coefficients / table).detach()
    through_image = coefficients / table.detach()
    through_table = coefficients.detach() / table
    slope = evaluate(surrogate, "slope", u, table.detach(), component)
    table_slope = evaluate(table_surrogate, "slope", u, table.detach(), component)
    return straight_through(level, slope.detach() * through_image + table_slope.detach() * through_table)


def quantize_soft(coefficients: Tensor, table: Tensor, component: Component, surrogate: Surrogate) -> Tensor:
    return evaluate(surrogate, "soft", coefficients / table, table, component)


def dequantize(levels: Tensor, table: Tensor) -> Tensor:
    return levels * table
