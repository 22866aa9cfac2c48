"""Getters of `DeepPot` and its relatives: properties of a model that need no evaluation."""

from __future__ import annotations

from typing import Any

from deepmd.array_model.outputs import Output
from deepmd.io.model_file import ModelFile, model_to_dict
from deepmd.io.model_summary import model_size, observed_types


class ModelFacts:
    """Mixin with properties of a model that need no evaluation."""

    _content: ModelFile

    @property
    def output(self) -> Output:
        """Description of the quantity that the model predicts."""
        output: Output = self._content.model.output
        return output

    def get_rcut(self) -> float:
        """Return the cutoff radius in Angstrom."""
        return float(self._content.model.layout().rcut)

    def get_ntypes(self) -> int:
        """Return the number of types."""
        return int(self._content.model.ntypes)

    def get_type_map(self) -> list[str]:
        """Return the element names; the index is the type."""
        return list(self._content.model.type_map)

    def get_sel_type(self) -> list[int]:
        """Return the types that have an atomic output."""
        return [kind for kind in range(self.get_ntypes()) if kind not in self.types_without_output]

    @property
    def types_without_output(self) -> tuple[int, ...]:
        """Types whose atoms have no output."""
        without: tuple[int, ...] = self._content.model.atom_exclude_types
        return without

    def get_min_nbor_dist(self) -> float | None:
        """Return the shortest distance in the training data in Angstrom, None if the file does not tell it."""
        return self._content.min_nbor_dist

    def get_dim_fparam(self) -> int:
        """Return the number of frame parameters."""
        return int(self._content.model.conditions["fparam"][0])

    def get_dim_aparam(self) -> int:
        """Return the number of atomic parameters."""
        return int(self._content.model.conditions["aparam"][0])

    def has_default_fparam(self) -> bool:
        """Return whether `fparam` may be left out although the model has frame parameters."""
        return self._content.model.conditions["fparam"][1] is not None

    def has_chg_spin_ebd(self) -> bool:
        """Return whether the model depends on charge and spin of a frame."""
        return bool(self._content.model.conditions["charge_spin"][0])

    def has_default_chg_spin(self) -> bool:
        """Return whether `charge_spin` may be left out although the model depends on it."""
        return self._content.model.conditions["charge_spin"][1] is not None

    def get_ntypes_spin(self) -> int:
        """Return the number of types with spin: none."""
        return 0

    def get_model_def_script(self) -> dict[str, Any]:
        """Return the `model` section of the input that the model was trained with, or {}."""
        return self._content.definition

    def get_model_size(self) -> dict[str, int]:
        """Return the numbers of weights of the descriptor's nets, the fitting nets, and both."""
        return model_size(self._content)

    def get_observed_types(self) -> dict[str, Any]:
        """Return the number (`type_num`) and names (`observed_type`) of the elements of the training data."""
        return observed_types(self._content)

    def serialize(self) -> dict[str, Any]:
        """Return the model as the nested dict of a `.dp` file, with NumPy arrays."""
        tree: dict[str, Any] = model_to_dict(self._content.model, self._content.params)
        return tree

    @property
    def has_efield(self) -> bool:
        """Whether the model takes an electric field: no."""
        return False

    @property
    def has_spin(self) -> bool:
        """Whether the model takes spins: no."""
        return False

    @property
    def has_hessian(self) -> bool:
        """Whether the model returns a Hessian: no."""
        return False

    @property
    def use_spin(self) -> list[bool]:
        """Which types have spin: none."""
        return []
