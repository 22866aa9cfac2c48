"""Vectors of elements and the electron configurations that they may be made from."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

from deepmd.array_model.electrons import ELEMENTS, FILLING, configuration, occupations
from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten, map_leaves
from deepmd.array_model.type_embedding import TypeEmbedding
from deepmd.host import plain
from deepmd.kit.layouts.parts import read_types, types_conversion

TYPES = ("O", "H", "Cu")
CONFIGS = {
    "plain": TypeEmbedding((4,), precision="float64"),
    "shortcut": TypeEmbedding((3,), precision="float64"),
    "doubled": TypeEmbedding((6,), use_tebd_bias=True, precision="float64"),
    "electrons": TypeEmbedding((8,), use_econf_tebd=True, precision="float64"),
}


def params_of(config):
    return config.init(TYPES, [1, 7], np.random.default_rng, xp=plain)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_table(config):
    params = params_of(config)
    rng = np.random.default_rng([0, 1, 7])
    size = 118 if config.use_econf_tebd else 3
    (width,) = config.neuron
    expected = params["inputs"] @ rng.normal(0.0, 1.0 / np.sqrt(size + width), (size, width))
    if config.use_tebd_bias:
        expected = expected + rng.normal(size=width)
    if width in (3, 6):
        expected = expected + np.tile(np.eye(3), width // 3)
    assert_close(config.table(params, xp=plain), np.concatenate([expected, np.zeros((1, width))]), "function")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_stored_form(config):
    params = params_of(config)
    form = types_conversion(config, TYPES)
    stored = form.write(params)
    assert read_types(stored, "here") == config
    read = form.read(stored, "here")
    old, new = flatten(params), flatten(map_leaves(np.asarray, read))
    assert old.keys() == new.keys()
    assert all(np.array_equal(old[path], new[path]) for path in old)


def test_another_embedding_than_that_of_the_options():
    form, other = (types_conversion(CONFIGS[name], TYPES) for name in ("plain", "doubled"))
    with pytest.raises(InputError, match=r"here: the stored type embedding .* is not that of the descriptor"):
        other.read(form.write(params_of(CONFIGS["plain"])), "here")


def test_electrons():
    assert occupations("O") == {**dict.fromkeys(FILLING, 0), "1s": 2, "2s": 2, "2p": 4}
    for number, element in enumerate(ELEMENTS, start=1):
        assert sum(occupations(element).values()) == number
        assert_close(np.linalg.norm(configuration(element)), 1.0, "function")
    signs = np.sign(configuration("O")[:12]).astype(int).tolist()
    assert signs == [1, 1, 1, 1, 1, 1, -1, 1, -1, 1, -1, -1]
    assert len({configuration(element) for element in ELEMENTS}) == len(ELEMENTS) == 118


def test_unknown_element():
    with pytest.raises(InputError, match="'X1' is none"):
        TypeEmbedding((8,), use_econf_tebd=True).inputs(("O", "X1"))
