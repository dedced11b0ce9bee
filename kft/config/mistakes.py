"""What pydantic finds wrong with settings, in the words of the user's file."""

from datetime import date, time
from typing import Any, Literal, get_args, get_origin

from kft.config.sections import Section
from kft.config.table import alternatives, is_section, settings_table
from kft.config.whole import Config
from kft.errors import closest, did_you_mean

# Of settings with several types, where the types alone do not say it.
WORDS = {"train.optimizer": "'adam', 'adamw', 'sgd' or one of optax's such as 'optax:lion'"}
SHAPES = {
    "data.spans": 'a list such as [["text", "start", "end"]]: a text, and two of the columns',
    "train.optax": "a table of numbers, strings, true or false such as {b1 = 0.9}",
}


def explain(item: dict) -> list[str]:
    """One mistake that pydantic reports; the alternatives of one setting give one line."""
    loc, got = [str(part) for part in item["loc"]], item.get("input")
    if item["type"] == "value_error":
        return str(item["ctx"]["error"]).split("\n")
    section = Config
    if loc and loc[0] in Config.model_fields and is_section(Config.model_fields[loc[0]]):
        section = Config.model_fields[loc[0]].annotation
    if item["type"] == "extra_forbidden":
        return [f"`{'.'.join(loc)}` is not a setting{_near_setting(loc, section)}"]
    depth = 1 if section is Config else 2  # parts of the setting's name in `loc`
    if ".".join(loc[:depth]) in SHAPES:  # one line, whatever the depth of the mistake
        return [f"`{'.'.join(loc[:depth])}` must be {SHAPES['.'.join(loc[:depth])]}"]
    types = alternatives(section.model_fields[loc[depth - 1]].annotation) if len(loc) >= depth else []
    wanted = _wanted(item)
    if len(types) > 1:
        inside = loc[depth + 1 :]  # after the setting's name comes the alternative that failed
        if isinstance(got, dict) and got and not inside and any(get_origin(t) is dict for t in types):
            return []  # each mistake in the table has its own item
        if type(got) in types and item["type"] in ("literal_error", "list_type"):
            return []  # and so is a number beyond its limits
        loc = loc[:depth] + inside
        if not inside and not item["type"].startswith(("greater", "less", "string_too")):
            wanted = "must be " + WORDS.get(".".join(loc), " or ".join(map(_words, types)))
    names = [name for t in types if get_origin(t) is Literal for name in get_args(t)]
    near = did_you_mean(got, names) if isinstance(got, str) else ""
    return [f"`{'.'.join(loc) or 'config'}` {wanted}, got: {_as_toml(got)}{near}"]


def _wanted(item: dict) -> str:
    """What pydantic expected."""
    limits = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in item.get("ctx", {}).items()
    }
    return {
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "float_type": "must be a number",
        "bool_type": "must be true or false",
        "string_type": "must be a string in quotes",
        "finite_number": "must be a finite number",
        "greater_than": f"must be more than {limits.get('gt')}",
        "greater_than_equal": f"must be at least {limits.get('ge')}",
        "less_than": f"must be less than {limits.get('lt')}",
        "less_than_equal": f"must be at most {limits.get('le')}",
        "literal_error": f"must be {limits.get('expected')}",
        "model_type": "must be a table of settings",
        "dict_type": "must be a table",
        "string_too_long": f"must be {limits.get('max_length')} character long",
        "string_too_short": "must not be empty",
    }.get(item["type"], item["msg"])


def _words(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(repr(option) for option in get_args(annotation))
    if get_origin(annotation) is list:
        return "a list"
    return {str: "a string in quotes", int: "a whole number", float: "a number"}.get(annotation, "a table")


def _as_toml(value: Any) -> str:
    """A value as the user would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"the table {{{', '.join(value)}}}"
    if isinstance(value, date | time):
        return value.isoformat()
    return repr(value)


def _near_setting(loc: list[str], section: type[Section]) -> str:
    near = closest(loc[-1], section.model_fields)
    if near is None:  # the right name in the wrong section, or none at all
        everywhere = [row[0] for row in settings_table()]
        near = next((n for n in everywhere if n.split(".")[-1] == loc[-1]), None) or closest(
            ".".join(loc), everywhere
        )
    return f", did you mean `{near}`?" if near else ""
