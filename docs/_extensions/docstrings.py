"""Reads the package as Griffe and Markdown do: "Example:" is a section, a role code, a NamedTuple has a constructor."""

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

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        if not any(str(base).endswith("NamedTuple") for base in cls.bases):
            return
        fields = [x for x in cls.attributes.values() if x.annotation is not None]
        cls.set_member(
            "__init__",
            griffe.Function(
                "__init__",
                lineno=cls.lineno,
                endlineno=cls.lineno,
                parent=cls,
                parameters=griffe.Parameters(
                    griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword),
                    *(
                        griffe.Parameter(
                            field.name,
                            annotation=field.annotation,
                            kind=griffe.ParameterKind.positional_or_keyword,
                            default=field.value,
                        )
                        for field in fields
                    ),
                ),
            ),
        )
