"""NVE of two systems at once with torch-sim: python nve.py water.pth [--structure ../water.xyz] [--steps 100]."""

import argparse
from pathlib import Path

from ase.io import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--structure", default=Path(__file__).parent.parent / "water.xyz")
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()

    import torch
    import torch_sim as ts

    from deepmd.engines.torch_sim import DPModel

    water, model = read(args.structure), DPModel(args.model)
    for temperature in (300, 330):
        torch.manual_seed(0)
        final = ts.integrate(
            [water, water],  # two copies with velocities of their own
            model,
            integrator=ts.nve,
            n_steps=args.steps,
            timestep=0.0005,  # ps
            temperature=temperature,
        )
        kinetic = ts.calc_kinetic_energy(momenta=final.momenta, masses=final.masses, system_idx=final.system_idx)
        print(f"{temperature} K at the start: total energies {(final.energy + kinetic).tolist()} eV")


if __name__ == "__main__":
    main()
