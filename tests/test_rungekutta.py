"""Runge-Kutta tables: order and stability, on equations with closed forms."""

import math

import numpy as np
import pytest
from scipy.special import ellipj

from tripartite.rungekutta import TABLES, step


def integrate(slope, y, duration, n, table):
    for _ in range(n):
        y = step(slope, y, duration / n, table)
    return y


@pytest.mark.parametrize(("method", "order"), [("rk4", 4), ("tsit5", 5)])
def test_error_falls_with_the_order_of_the_table(method, order):
    """A pendulum released at rest, against its exact swing, and dy/dt = -y^2 + y."""

    def slope(y):
        angle, speed, grown = y
        return np.array([speed, -np.sin(angle), grown * (1 - grown)])

    start, duration = np.array([0.0, 2 * 0.6, 0.2]), 4.0
    sn, cn, dn, _ = ellipj(duration, 0.6**2)  # energy of modulus k = 0.6, through the bottom
    swing = [2 * math.asin(0.6 * sn), 2 * 0.6 * cn]
    exact = np.array([*swing, 1 / (1 + 4 * math.exp(-duration))])
    table = TABLES[method]
    errors = [
        np.abs(integrate(slope, start, duration, n, table) - exact).max() for n in (50, 100, 200)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - order) < 0.4), orders  # another order would be off by 1


@pytest.mark.parametrize("method", TABLES)
def test_stability_reaches_as_far_as_the_table_says(method):
    table = TABLES[method]
    within, beyond = (
        abs(integrate(lambda y: -y, np.array([1.0]), 2000 * z, 2000, table)[0])
        for z in (table.stable * 0.999, table.stable * 1.002)
    )
    assert within < 1 < beyond


@pytest.mark.parametrize("method", TABLES)
def test_shape_is_kept(method):
    y = np.arange(6.0).reshape(2, 3)
    after = step(lambda y: np.ones_like(y), y, 0.5, TABLES[method])
    np.testing.assert_allclose(after, y + 0.5, rtol=1e-14)
