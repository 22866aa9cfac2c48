"""DeepDipole, DeepPolar, DeepDOS, DeepProperty: models of other quantities than energies. Base class: deep_pot.py."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from deepmd.array_model.components import fittings_of
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.property import PropertyFitting
from deepmd.infer.deep_pot import DeepEval


class DeepTensor(DeepEval):
    """A model of dipoles or polarizabilities of d components, in the unit of its training data.

    Arguments as for `DeepEval`.
    """

    atomic_unless_told: ClassVar[bool] = True
    """Default of `atomic` in `eval`."""

    @property
    def output_tensor_name(self) -> str:
        """Name of the tensor."""
        return self.output.name  # type: ignore[no-any-return]

    @property
    def output_dim(self) -> int:
        """Number of components d."""
        return int(self.output.width)

    def get_task_dim(self) -> int:
        """Return the number of components d."""
        return self.output_dim

    def eval(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        atomic: bool | None = None,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        charge_spin: Any = None,
    ) -> np.ndarray:
        """Return the tensors of the atoms (F, n, d), or without `atomic` their sum (F, d).

        Arguments as for `DeepPot.eval`, but `atomic` is true by default (`DeepGlobalPolar`: false). Tensors of rank two
        are flattened row by row. Atoms whose type has no output get zeros.
        """
        name = self.output.atomic if (self.atomic_unless_told if atomic is None else atomic) else self.output.name
        return self._run(
            self._frames(coords, cells, atom_types, mixed_type, fparam=fparam, aparam=aparam, charge_spin=charge_spin),
            frozenset({name}),
        )[name]

    def eval_full(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        atomic: bool = False,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        charge_spin: Any = None,
    ) -> tuple[np.ndarray, ...]:
        """Evaluate a tensor T and its derivatives (docs/theory/conventions.md#shapes-of-results).

        Arguments as for `DeepPot.eval`. Models of polarizabilities have no derivatives.

        Returns
        -------
        the total (F, d), the forces -dT/dr (F, d, n, 3), the virials (F, d, 9), and with `atomic` the tensors of the
        atoms (F, n, d) and the atomic virials (F, d, n, 9)
        """
        output = self.output
        if not output.differentiable:
            raise InputError(f"{self.model_path}: models of {output.name} have no derivatives; eval gives the tensors")
        wanted = frozenset({output.name, "force", "virial", *([output.atomic, "atom_virial"] if atomic else [])})
        out = self._run(
            self._frames(coords, cells, atom_types, mixed_type, fparam=fparam, aparam=aparam, charge_spin=charge_spin),
            wanted,
        )

        def by_component(name: str) -> np.ndarray:
            """Return (F, n, d * k) as (F, d, n, k)."""
            count, natoms = out[name].shape[:2]
            return np.ascontiguousarray(out[name].reshape(count, natoms, output.width, -1).transpose(0, 2, 1, 3))

        result = out[output.name], by_component("force"), out["virial"].reshape(len(out["virial"]), output.width, 9)
        return (*result, out[output.atomic], by_component("atom_virial")) if atomic else result


class DeepDipole(DeepTensor):
    """A model of dipoles."""

    outputs = ("dipole",)


class DeepPolar(DeepTensor):
    """A model of polarizabilities, flattened row by row."""

    outputs = ("polar",)


class DeepGlobalPolar(DeepPolar):
    """A model of polarizabilities whose `eval` returns the sum over the atoms by default."""

    atomic_unless_told = False


class _ValuesOfFrames(DeepEval):
    """Base class of models of d values for each frame and each atom."""

    always_both: ClassVar[bool] = False
    """Whether `eval` returns atomic values even without `atomic`."""

    def eval(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        atomic: bool = False,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        charge_spin: Any = None,
    ) -> tuple[np.ndarray, ...]:
        """Return the values of the frames (F, d), and with `atomic` also the values of the atoms (F, n, d).

        `DeepDOS` always returns both. Arguments as for `DeepPot.eval`.
        """
        names = (self.output.name, self.output.atomic) if atomic or self.always_both else (self.output.name,)
        out = self._run(
            self._frames(coords, cells, atom_types, mixed_type, fparam=fparam, aparam=aparam, charge_spin=charge_spin),
            frozenset(names),
        )
        return tuple(out[name] for name in names)


class DeepDOS(_ValuesOfFrames):
    """A model of densities of states; arguments as for `DeepEval`."""

    outputs = ("dos",)
    always_both = True

    @property
    def numb_dos(self) -> int:
        """Number of grid points."""
        return int(self.output.width)

    def get_numb_dos(self) -> int:
        """Return the number of grid points."""
        return self.numb_dos


class DeepProperty(_ValuesOfFrames):
    """A model of a property; arguments as for `DeepEval`."""

    outputs = ("property",)

    def get_var_name(self) -> str:
        """Return the name of the property."""
        (fitting,) = fittings_of(self._content.model)
        assert isinstance(fitting, PropertyFitting)
        return fitting.property_name

    def get_task_dim(self) -> int:
        """Return the number of components."""
        return int(self.output.width)

    def get_intensive(self) -> bool:
        """Return whether the property is a mean over the atoms, not a sum."""
        return bool(self.output.intensive)
