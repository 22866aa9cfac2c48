"""Forces for i-PI: python client.py water.pth, after `i-pi input.xml &` in this folder. Ends when i-PI ends."""

import argparse
from pathlib import Path

from ase.calculators.socketio import SocketClient
from ase.io import read

from deepmd.calculator import DP

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model")
parser.add_argument("--address", default="deepmd-water", help="address of the ffsocket in input.xml")
args = parser.parse_args()

atoms = read(Path(__file__).parent.parent / "water.xyz")  # elements and their order; positions come from i-PI
atoms.calc = DP(args.model)
SocketClient(unixsocket=args.address).run(atoms, use_stress=True)
