"""Parameters with units: conversion, refusal in words, immutability."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest

from tripartite.astrocyte import ASTROCYTES, GLIOTRANSMISSION
from tripartite.beyond.imaging import INDICATORS
from tripartite.dynamics import Times
from tripartite.quantities import UNITS
from tripartite.synapse import SYNAPSES

SETS = [
    *SYNAPSES.values(),
    *ASTROCYTES.values(),
    *GLIOTRANSMISSION.values(),
    Times(),
    *INDICATORS.values(),
]
SYNAPSE = SYNAPSES["stimberg2019-ex3"]


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("Y_T", "500 mM", 5e5),
        ("Y_T", "0.5 M", 5e5),
        ("Y_T", "500000 uM", 5e5),
        ("Omega_G", "0.5 1/min", 0.5 / 60),
        ("Omega_c", "0.04 1/ms", 40.0),
        ("U_0", "0.6", 0.6),
    ],
)
def test_text_with_a_unit_is_converted(name, text, number):
    assert getattr(replace(SYNAPSE, **{name: text}), name) == pytest.approx(number, rel=1e-15)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Omega_c", "25 ms", ["Omega_c = '25 ms'", "1/s"]),  # a time where a rate belongs
        ("Y_T", "500 1/s", ["Y_T", "mM"]),
        ("Y_T", 500.0, ["Y_T = 500 uM", "1000"]),  # the published 500 are mM
        ("Y_T", "500 furlongs", ["furlongs", "unit of"]),
        ("Omega_f", 0.0, ["Omega_f = 0 1/s", "above 0"]),
        ("U_0", 1.2, ["U_0 = 1.2", "at most 1"]),
        ("alpha", -0.1, ["alpha = -0.1", "at least 0"]),
        ("Omega_d", float("nan"), ["Omega_d = nan"]),
        ("Omega_d", float("inf"), ["Omega_d = inf", "finite"]),
        ("U_0", True, ["U_0 = True", "number"]),
        ("U_0", [0.6], ["U_0 = [0.6]", "one number"]),
        ("U_0", None, ["U_0 = None"]),
    ],
)
def test_impossible_values_are_refused_by_name(name, value, words):
    with pytest.raises(ValueError) as error:
        replace(SYNAPSE, **{name: value})
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("parameters", SETS, ids=lambda p: type(p).__name__)
def test_every_parameter_has_a_unit_of_the_code_and_a_meaning(parameters):
    computed_in = {base for base, _ in UNITS.values()}
    for symbol, value, unit, meaning, source in parameters.table():
        assert unit in computed_in
        assert len(meaning) > 10 and source
        assert value == getattr(parameters, symbol)
    with pytest.raises(FrozenInstanceError):
        setattr(parameters, fields(parameters)[0].name, 1.0)
