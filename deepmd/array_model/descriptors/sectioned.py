"""What descriptors share whose neighbours come in one section for each type (spec core, sections 3, 4 and 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model import serial
from deepmd.array_model.descriptors.local import Local
from deepmd.array_model.environment import environment_rows, without_excluded
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.networks import Net
from deepmd.array_model.pairs import Layout, Pairs, spans


@dataclass(frozen=True)
class Sectioned(Local):
    """`sel` has one number of slots for each type."""

    sel: tuple[int, ...] | str = "auto"

    @property
    def slots(self) -> tuple[int, ...]:
        """Slots per neighbour type, once resolved."""
        return self.numbers

    @property
    def keys_of_nets(self) -> int:
        """Number of types that a net belongs to."""
        return 1

    def layout(self) -> Layout:
        """How neighbours are to be packed."""
        return Layout(self.rcut, self.slots)

    def raw_rows(self, pairs: Pairs, *, xp: Namespace) -> list[Array]:
        """Environment rows (N, M, 4) before normalisation, zero where empty or excluded: the sample of the statistics."""
        rows_NM4 = environment_rows(pairs.disp_NM3, self.rcut_smth, self.rcut, self.env_protection, xp=xp)
        return [without_excluded(rows_NM4, pairs, self.exclude_types, xp=xp)]

    # -- parts ------------------------------------------------------------------------------------------------------

    def _net(self) -> Net:
        """Shape of the embedding nets: all read one number."""
        return Net(1, self.neuron, self.activation_function, self.resnet_dt)

    def rows(self, params: Params, pairs: Pairs, *, xp: Namespace) -> list[Array]:
        """Normalised environment rows of each section (N, width, columns), those of excluded neighbours zero."""
        disp_NM3 = xp.astype(pairs.disp_NM3, dtype_of(self.precision, xp=xp))
        rows_NMC = environment_rows(disp_NM3, self.rcut_smth, self.rcut, self.env_protection, xp=xp)[:, :, : self.columns]
        out = []
        for rows, width, (start, _) in zip(xp.split(rows_NMC, pairs.widths, axis=1), pairs.widths, spans(self.slots), strict=True):
            mean, std = (xp.take(params[name][:, start : start + width, :], pairs.type_N, axis=0) for name in ("davg", "dstd"))
            out.append((rows - mean) / std)
        return xp.split(without_excluded(xp.concat(out, axis=1), pairs, self.exclude_types, xp=xp), pairs.widths, axis=1)  # type: ignore[no-any-return]

    def rest(self, params: Params, pairs: Pairs) -> list[Array]:
        """Rows of the slots of each section beyond the width of the batch (T, sel - width, columns): empty for every atom."""
        empty_TSC = -params["davg"] / params["dstd"]
        return [empty_TSC[:, start + width : stop, :] for (start, stop), width in zip(spans(self.slots), pairs.widths, strict=True)]

    # -- files ------------------------------------------------------------------------------------------------------

    def stored_parts(self, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
        """Return the nets."""
        flags = [self.trainable] * len(self.neuron)
        nets: list[dict[str, Any] | None] = [serial.net_to_dict(self._net(), p, self.precision, flags) for p in params["embeddings"]]
        return {"embeddings": serial.collection(nets, self.keys_of_nets, len(type_map), "embedding_network")}

    def parts_from(self, tree: dict[str, Any], what: str) -> Params:
        """Return the parameters of the nets."""
        stored, expected = tree["embeddings"]["networks"], len(self.slots) ** self.keys_of_nets
        present = sum(item is not None for item in stored)
        if len(stored) != expected or present != expected:
            reason = "" if present else ": a compressed model, with tables in their place. Needed: the model from before the compression"
            raise InputError(f"{what}: expected {expected} embedding nets, the file has {present}{reason}")
        return {"embeddings": [serial.net_from_dict(self._net(), item, f"{what}, net {k}") for k, item in enumerate(stored)]}
