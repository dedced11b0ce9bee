"""Every setting as a row that people read."""

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from kft.config.sections import Section
from kft.config.whole import Config


def settings_table() -> list[tuple[str, str, str, str]]:
    """Every setting as (dotted name, type, default, description), in the order of the sections."""
    rows = []
    for name, field in Config.model_fields.items():
        if is_section(field):
            for key, inner in field.annotation.model_fields.items():
                rows.append(
                    (f"{name}.{key}", _type_name(inner.annotation), _default(inner), inner.description)
                )
        else:
            rows.append((name, _type_name(field.annotation), _default(field), field.description))
    return rows


def setting_types(name: str) -> list[Any] | None:
    """The types that a setting takes; None where there is no setting of that dotted name."""
    section, _, key = name.partition(".")
    field = Config.model_fields.get(section)
    if field is not None and is_section(field):
        field = field.annotation.model_fields.get(key)
    elif key:
        return None
    return None if field is None else alternatives(field.annotation)


def is_section(field: FieldInfo) -> bool:
    """Whether a setting is a table of settings."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, Section)


def alternatives(annotation: Any) -> list[Any]:
    """The types of a union, None aside; one type alone where it is none."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [a for part in get_args(annotation) if part is not type(None) for a in alternatives(part)]
    return [annotation]


def _type_name(annotation: Any) -> str:
    plain = {str: "string", int: "whole number", float: "number", bool: "true or false"}
    names = []
    for part in alternatives(annotation):
        names += (
            get_args(part)
            if get_origin(part) is Literal
            else [plain.get(part, "list" if get_origin(part) is list else "table")]
        )
    return " | ".join(names)


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "-"
    return {True: "true", False: "false"}[default] if isinstance(default, bool) else str(default)
