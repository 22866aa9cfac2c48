"""Export to metatomic, and run the file with its ASE calculator: python export.py water.pth water-metatomic.pt."""

import argparse
from pathlib import Path

from ase.io import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("--structure", default=Path(__file__).parent.parent / "water.xyz")
    args = parser.parse_args()

    from metatomic_ase import MetatomicCalculator

    from deepmd.engines.metatomic import export_metatomic

    export_metatomic(args.model, args.output)
    atoms = read(args.structure)
    atoms.calc = MetatomicCalculator(args.output)
    force = abs(atoms.get_forces()).max()
    print(f"{args.output}: energy {atoms.get_potential_energy():.5f} eV, largest force {force:.4f} eV/Å")


if __name__ == "__main__":
    main()
