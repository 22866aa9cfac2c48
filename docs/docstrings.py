"""Docstrings here write `name : what it is`, because types stand in the signature; the site shows them so."""

from __future__ import annotations

from typing import Any

import griffe


class Descriptions(griffe.Extension):
    """Move what stands in the place of the type of a parameter or attribute to its description."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change one docstring."""
        if obj.docstring is None:
            return
        for section in obj.docstring.parsed:
            if section.kind in (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes):
                for entry in section.value:
                    text = str(entry.annotation or "")
                    entry.description = " ".join(part for part in (text.strip("()"), entry.description) if part)
                    known = obj.parameters if isinstance(obj, griffe.Function) else {}
                    entry.annotation = known[entry.name].annotation if entry.name in known else None
