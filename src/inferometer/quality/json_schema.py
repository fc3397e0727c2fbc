"""Whether a text is JSON that a JSON Schema allows. Runs in the sandbox too: it uses no other module of this project.

It knows the keywords of draft 2020-12 that describe data, without references; any other keyword that restricts fails
the check instead of passing it.
"""
# pyright: basic

import json
import math
import re
import sys
from typing import Any

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
KNOWN_TYPES = [*TYPES, "number", "integer"]
LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
          "minItems", "maxItems", "minProperties", "maxProperties"}  # fmt: skip
ANNOTATIONS = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "format", "deprecated"}


def problems(value, schema, place="$"):
    if schema is True or schema is False:
        return [] if schema else [f"{place}: nothing is allowed here"]
    found = []
    for keyword, rule in schema.items():
        if keyword in ANNOTATIONS:
            continue
        if keyword not in RULES:
            return [f"{place}: the schema's keyword {keyword!r} is not supported"]
        found += RULES[keyword](value, rule, schema, place)
    return found


def has_type(value, name):
    if name == "integer":
        return has_type(value, "number") and float(value).is_integer()
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def same(one, other):
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def when(kind, holds, text):
    """A rule for values of this kind: `text` if it does not hold."""

    def rule(value, limit, schema, place):
        if not isinstance(value, kind) or isinstance(value, bool) or holds(value, limit):
            return []
        return [f"{place}: {text} {json.dumps(limit)}"]

    return rule


def of_type(value, rule, schema, place):
    names = [rule] if isinstance(rule, str) else rule
    return [] if any(has_type(value, name) for name in names) else [f"{place}: not of type {', '.join(names)}"]


def of_properties(value, rule, schema, place):
    if not isinstance(value, dict):
        return []
    return [
        line for name, sub in rule.items() if name in value for line in problems(value[name], sub, f"{place}.{name}")
    ]


def of_additional(value, rule, schema, place):
    if not isinstance(value, dict):
        return []
    patterns = schema.get("patternProperties", {})
    rest = [
        name
        for name in value
        if name not in schema.get("properties", {}) and not any(re.search(pattern, name) for pattern in patterns)
    ]
    return [line for name in rest for line in problems(value[name], rule, f"{place}.{name}")]


def of_patterns(value, rule, schema, place):
    if not isinstance(value, dict):
        return []
    named = [(name, sub) for pattern, sub in rule.items() for name in value if re.search(pattern, name)]
    return [line for name, sub in named for line in problems(value[name], sub, f"{place}.{name}")]


def of_items(value, rule, schema, place):
    if not isinstance(value, list):
        return []
    first = len(schema.get("prefixItems", []))
    return [line for n, one in enumerate(value[first:], first) for line in problems(one, rule, f"{place}[{n}]")]


def of_prefix(value, rule, schema, place):
    if not isinstance(value, list):
        return []
    return [
        line
        for n, (one, sub) in enumerate(zip(value, rule, strict=False))
        for line in problems(one, sub, f"{place}[{n}]")
    ]


def of_required(value, rule, schema, place):
    missing = [name for name in rule if name not in value] if isinstance(value, dict) else []
    return [f"{place}: {', '.join(missing)} missing"] if missing else []


def counted(value, rule, place):
    return sum(not problems(value, sub, place) for sub in rule)


NUMBERS, TEXT, LIST, OBJECT = (int, float), (str,), (list,), (dict,)
RULES = {
    "type": of_type,
    "enum": lambda v, rule, s, p: [] if any(same(v, one) for one in rule) else [f"{p}: not one of {json.dumps(rule)}"],
    "const": lambda v, rule, s, p: [] if same(v, rule) else [f"{p}: not {json.dumps(rule)}"],
    "properties": of_properties,
    "additionalProperties": of_additional,
    "patternProperties": of_patterns,
    "required": of_required,
    "items": of_items,
    "prefixItems": of_prefix,
    "minimum": when(NUMBERS, lambda v, limit: v >= limit, "less than"),
    "maximum": when(NUMBERS, lambda v, limit: v <= limit, "more than"),
    "exclusiveMinimum": when(NUMBERS, lambda v, limit: v > limit, "not more than"),
    "exclusiveMaximum": when(NUMBERS, lambda v, limit: v < limit, "not less than"),
    "multipleOf": when(NUMBERS, lambda v, of: math.isclose(v / of, round(v / of), abs_tol=1e-9), "not a multiple of"),
    "minLength": when(TEXT, lambda v, limit: len(v) >= limit, "shorter than"),
    "maxLength": when(TEXT, lambda v, limit: len(v) <= limit, "longer than"),
    "pattern": when(TEXT, lambda v, pattern: re.search(pattern, v) is not None, "does not match"),
    "minItems": when(LIST, lambda v, limit: len(v) >= limit, "fewer items than"),
    "maxItems": when(LIST, lambda v, limit: len(v) <= limit, "more items than"),
    "uniqueItems": when(LIST, lambda v, on: not on or len({json.dumps(x, sort_keys=True) for x in v}) == len(v), "not"),
    "minProperties": when(OBJECT, lambda v, limit: len(v) >= limit, "fewer properties than"),
    "maxProperties": when(OBJECT, lambda v, limit: len(v) <= limit, "more properties than"),
    "allOf": lambda v, rule, s, p: [line for sub in rule for line in problems(v, sub, p)],
    "anyOf": lambda v, rule, s, p: [] if counted(v, rule, p) else [f"{p}: fits none of anyOf"],
    "oneOf": lambda v, rule, s, p: [] if counted(v, rule, p) == 1 else [f"{p}: fits {counted(v, rule, p)} of oneOf"],
    "not": lambda v, rule, s, p: [f"{p}: fits what it must not"] if not problems(v, rule, p) else [],
}


def unsupported(schema: object, place: str = "schema") -> str:
    """The first part of a schema that this module cannot apply, and why; "" if it can apply all."""
    if isinstance(schema, bool):
        return ""
    if not isinstance(schema, dict):
        return f"{place} is not a schema"
    for keyword, rule in schema.items():
        if keyword in ANNOTATIONS:
            continue
        if keyword not in RULES:
            return f"{place}: the keyword {keyword!r} is not supported"
        if found := unsupported_rule(keyword, rule, f"{place}.{keyword}"):
            return found
    return ""


def unsupported_rule(keyword: str, rule: Any, place: str) -> str:
    if keyword in ("properties", "patternProperties"):
        inner = list(rule.items()) if isinstance(rule, dict) else [("", None)]
    elif keyword in ("prefixItems", "allOf", "anyOf", "oneOf"):
        inner = list(enumerate(rule)) if isinstance(rule, list) and rule else [("", None)]
    else:
        inner = [("", rule)] if keyword in ("items", "additionalProperties", "not") else []
    found = next((found for name, sub in inner if (found := unsupported(sub, f"{place}.{name}".rstrip(".")))), "")
    names = [rule] if isinstance(rule, str) else rule
    if keyword == "type" and not (isinstance(names, list) and all(name in KNOWN_TYPES for name in names)):
        return f"{place}: {rule!r} is not a type"
    if keyword in LIMITS and not (isinstance(rule, (int, float)) and not isinstance(rule, bool)):
        return f"{place}: {rule!r} is not a number"
    names_of_inner: list[Any] = [name for name, _ in inner]
    patterns = [rule] if keyword == "pattern" else names_of_inner if keyword == "patternProperties" else []
    return found or next(filter(None, (fault_of_pattern(one, place) for one in patterns)), "")


def fault_of_pattern(pattern: Any, place: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        return f"{place}: {pattern!r} is not a pattern: {error}"
    return ""


def refused(name):
    raise ValueError(f"{name} is not JSON")


def parsed(answers):
    """The value of the first text that is JSON. Raises ValueError, that of the last text."""
    for place, text in enumerate(answers, 1):
        try:
            return json.loads(text.strip().lstrip("\ufeff"), parse_constant=refused)
        except (ValueError, RecursionError):
            if place == len(answers):
                raise
    return None


if __name__ == "__main__":
    with open("task.json", encoding="utf-8") as file:
        task = json.load(file)
    try:
        value = parsed(task["answers"])
    except (ValueError, RecursionError) as error:
        sys.exit(f"the answer is not JSON: {error}")
    sys.exit("\n".join(problems(value, task["schema"])[:4]) or 0)
