"""Reads the package's docstrings as Griffe and Markdown do: "Example:" is a section, a role is code."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|data|func|meth|mod):`(~?)([\w.]+)`")


class Docstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            text = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
            obj.docstring.value = ROLE.sub(
                lambda role: f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`", text
            )
