"""A form made of the fields of a request, and the request made of what a form sends.

The fields of a form bear the long names of the options; a box that turns a default off bears that
of the option that does, ``no-placebo``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData

from batchsense.errors import DataError
from batchsense.questions.option import Described, options_of
from batchsense.questions.request import Request

#: Fields that no form has: files come by upload, and no browser may ask things of the machine.
_ELSEWHERE = ("matrix", "sheet", "document", "output", "machine")


@dataclass(frozen=True, slots=True)
class FormField:
    """A field as the template shows it."""

    name: str  #: Its name in the form
    described: Described  #: The option behind it
    #: How it is shown: ``"column"``, ``"columns"``, ``"contrasts"``, ``"layer"``, ``"radios"``,
    #: ``"choice"``, ``"several"``, ``"box"``, ``"switch"``, ``"lines"``, ``"number"`` or
    #: ``"text"``.
    widget: str
    value: Any  #: What it shows at first
    kinds: bool = False  #: Whether the kind of each column is asked beside it


def form_fields(request: type[Request], values: Mapping[str, Any]) -> list[FormField]:
    """The fields of a form, in the order of the options."""
    described = options_of(request)
    asks_kinds = any(one.option.of == "kind" for one in described)
    found: list[FormField] = []
    for one in described:
        if one.option.of in (*_ELSEWHERE, "kind"):
            continue
        value = values.get(one.field, one.default)
        name = f"no-{one.flag}" if one.default is True else one.flag
        widget = _widget(one)
        kept = one.option.of != "wide" and one.flag != "batch"  # one list of kinds is enough
        may = asks_kinds and widget == "columns" and kept
        kinds = may and not any(each.kinds for each in found)
        found.append(FormField(name, one, widget, value, kinds))
    return found


def _widget(one: Described) -> str:
    of = one.option.of
    if of in ("column", "contrast", "layer", "wide"):
        return {"contrast": "contrasts", "layer": "layer"}.get(of, _one_or_more(one))
    if of == "target" or (one.choices and one.option.choices):
        return "radios"
    if one.choices:
        return "several" if one.repeated else "choice"
    if one.type is bool:
        return "switch" if one.optional else "box"
    if one.repeated:
        return "lines"
    return "number" if one.type in (int, float) else "text"


def _one_or_more(one: Described) -> str:
    return "columns" if one.repeated else "column"


def read_form(request: type[Request], form: FormData, builtin: bool = False) -> dict[str, Any]:
    """What a form says, by field of the request; bounds are left to the request."""
    fields = form_fields(request, {})
    values = {field.described.field: _read(field, form) for field in fields}
    if not builtin:
        for field in fields:
            one = field.described
            if one.repeated and one.optional and not values[one.field]:
                values[one.field] = None
    kinded = (
        field
        for field in fields
        if field.widget in _OF_COLUMNS and field.described.option.of != "wide"
    )
    used = [name for field in kinded for name in _used(field, form)]
    for one in options_of(request):
        if one.option.of == "kind":
            values[one.field] = tuple(
                name for name in dict.fromkeys(used) if form.get(f"kind:{name}") == one.field
            )
    return values


def in_words_of_the_form(request: type[Request], message: str) -> str:
    """A message about options with the labels of the form in their place.

    Examples
    --------
    >>> from batchsense.questions.layout.request import LayoutRequest
    >>> in_words_of_the_form(LayoutRequest, "--batches is needed: how many batches")
    '“Number of batches” is needed: how many batches'
    """
    labels = {one.flag: one.label for one in options_of(request)}

    def label(match: re.Match[str]) -> str:
        flag = match[1].removeprefix("no-") if match[1] not in labels else match[1]
        return f"“{labels[flag]}”" if flag in labels else match[0]

    return re.sub(r"--([a-z][a-z-]*)", label, message)


_OF_COLUMNS = ("columns", "contrasts")


def _read(field: FormField, form: FormData) -> Any:
    one, widget = field.described, field.widget
    if widget in ("columns", "several"):
        return tuple(ticked(form, field.name))
    if widget == "lines":
        return _lines(form, field.name)
    if widget == "contrasts":
        return (*ticked(form, field.name), *_lines(form, f"{field.name}-lines"))
    text = text_field(form, field.name)
    if widget == "box":
        return (text is not None) != (one.default is True)
    if widget == "switch":
        return {"yes": True, "no": False}.get(text or "")
    if one.option.of == "target":
        return _built_in(one, text)
    if text is None:
        return one.default
    return _number(one, text) if widget == "number" else text


def _used(field: FormField, form: FormData) -> list[str]:
    columns = (name.split(":", 1)[0].split("*") for name in _read(field, form))
    return [name.strip() for one in columns for name in one]


def _built_in(one: Described, text: str | None) -> str:
    known = one.option.choices or {}
    name = text or str(next(iter(known)))
    if name not in known:
        raise DataError(
            f"a browser may name only {' and '.join(known)}; for a training job of your own use "
            "the command line: batchsense plan path.py:function",
            where=one.label,
        )
    return name


def _number(one: Described, text: str) -> float:
    """Read a number strictly: int() would also take "1_0" and digits of other scripts."""
    plain = text.isascii() and "_" not in text and len(text) < 40
    try:
        return int(text) if one.type is int and plain else float(text if plain else "x")
    except ValueError:
        kind = "a whole number" if one.type is int else "a number"
        bounds = f" {one.bounds()}" if one.bounds() else ""
        raise DataError(f"{text[:40]!r} is not {kind}{bounds}", where=one.label) from None


def text_field(form: FormData, name: str) -> str | None:
    """What was typed or chosen, None where nothing was."""
    value = form.get(name)
    return (value.strip() or None) if isinstance(value, str) else None


def _lines(form: FormData, name: str) -> tuple[str, ...]:
    given = str(form.get(name) or "").splitlines()
    return tuple(line.strip() for line in given if line.strip())


def ticked(form: FormData, name: str) -> list[str]:
    """The values of the boxes that were ticked."""
    return [value for value in form.getlist(name) if isinstance(value, str)]
