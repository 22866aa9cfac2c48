"""Our files in `dp_ipi`, DeePMD-kit's client of i-PI, against a server that speaks i-PI's protocol."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from interop.lammps_check import expected

pytestmark = pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")

ACCURACY = 1e-8
"""Relative. Quantities cross the socket in atomic units, and Hartrees of CODATA 2014 and 2018 differ by 8e-9."""


@pytest.mark.parametrize("name", ["model.pb", "compressed.pb"])
def test_moved_atoms(kit, files, water, tmp_path, name):
    ase = pytest.importorskip("ase")
    socketio = pytest.importorskip("ase.calculators.socketio")
    host, model = f"deepmd_{os.getpid()}_{name}", files["se_e2_a", name]
    atoms = ase.Atoms(np.array(["O", "H"])[water.types], water.coord, cell=water.cell, pbc=True)
    options = {"verbose": False, "use_unix": True, "port": 0, "host": host, "graph_file": str(model)}
    (tmp_path / "client.json").write_text(
        json.dumps({**options, "coord_file": "atoms.xyz", "atom_type": {"O": 0, "H": 1}})
    )
    atoms.write(tmp_path / "atoms.xyz", plain=True)
    with ThreadPoolExecutor(1) as pool, socketio.SocketIOCalculator(unixsocket=host, timeout=300.0) as server:
        client = pool.submit(kit.run, ["dp_ipi", "client.json"], tmp_path)
        atoms.calc = server
        for step in range(2):
            atoms.rattle(0.02, seed=step)
            found = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
            wanted = expected(
                files["se_e2_a", "model.dp"], type(water)(atoms.positions.copy(), water.types, water.cell)
            )
            virial = -atoms.get_volume() * found[2]
            for value, want in zip(
                (found[0], found[1], virial), (wanted["energy"], wanted["force"], wanted["virial"]), strict=True
            ):
                want = want.reshape(np.shape(value))
                assert np.abs(value - want).max() <= ACCURACY * np.abs(want).max()
        server.close()
        ended = client.exception()
    assert ended is None or "exit code 255" in str(ended)  # a client of i-PI fails when its server has gone
