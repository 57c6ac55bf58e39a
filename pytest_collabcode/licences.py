"""Licences: whether an SPDX expression asks for the same licence on copies, and what licence a file names itself.

Not covered: legal advice, and whether two licences go together. Deprecated identifiers (`GPL-2.0+`) are read like the
new ones; an exception (`WITH Classpath-exception-2.0`) frees who links, not who copies, so it changes nothing here.
Sources: SPDX 2.3, annex D for expressions and E for the tag; the list of identifiers is `packaging`'s; the families
are those that choosealicense.com marks "same license", with the OSI-approved ones that ask the same.
"""

from __future__ import annotations

import re

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

MAX_CHARACTERS = 400
"""A longer expression is read as unknown words, so that no hostile file costs time."""
TAGGED_LINES = 30
"""How far from its beginning a file is searched for its licence tag."""

_COPYLEFT = re.compile(
    r"(?:[al]?gpl|lgpllr|mpl|epl|cddl|eupl|osl|nposl|cc-by-(?:nc-)?sa|gfdl|odbl|sspl|cpl|cpal|ipl|rpl|rpsl|apsl|ms-rl"
    r"|cecill-(?:[12]|c)|cern-ohl-[sw]|sleepycat|npl|spl|cua-opl|liliq-r(?:plus)?|copyleft-next|erlpl)(?![a-z])",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[()]|[^\s()]+")
_INNERMOST = re.compile(r"\( ([^()]*) \)")
_TERM = r"(?!(?:AND|OR|WITH)\b)[^\s()]+(?: WITH (?!(?:AND|OR|WITH)\b)[^\s()]+)?"
_FLAT = re.compile(rf"{_TERM}(?: (?:AND|OR) {_TERM})*", re.IGNORECASE)
_AND, _OR, _OPERATOR = (re.compile(f" (?:{word}) ", re.IGNORECASE) for word in ("AND", "OR", "AND|OR"))
_TAG = re.compile(r"^[^\w\n]*SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+() :-]+)", re.MULTILINE)
_STANDS_FOR = {True: "GPL-3.0-only", False: "MIT"}  # a judged parenthesis, as a licence that is judged the same


def is_copyleft(spdx: str) -> bool:
    """Whether everything a recipient may choose asks for the same licence on copies.

    Args:
        spdx: an identifier or expression. What is on no list is not copyleft, see `is_known`. What is no expression
            ("GPL-2.0, MIT") is copyleft when any identifier in it is: it is read as if all held.
    Example:
        >>> [is_copyleft(text) for text in ("LGPL-3.0-or-later", "MIT OR GPL-2.0", "MIT AND GPL-2.0", "Apache-2.0")]
        [True, False, True, False]

    Source: SPDX 2.3, annex D: AND binds more tightly than OR.
    """
    flat = _flattened(spdx)
    return _all_choices(flat) if flat else any(map(_COPYLEFT.match, _WORDS.findall(spdx)))


def is_known(spdx: str) -> bool:
    """Whether it is a well-formed expression of identifiers on SPDX's list, so that `is_copyleft` can be relied on.

    Example:
        >>> is_known("mit"), is_known("GPL-2.0-only WITH Classpath-exception-2.0"), is_known("Acme-1.0"), is_known("")
        (True, True, False, False)
    """
    words = " ".join(word for word in _WORDS.findall(spdx) if word not in ("(", ")"))
    return bool(_flattened(spdx)) and all(map(_is_listed, _OPERATOR.split(words)))


def tagged_licence(text: str) -> str:
    """Return the licence that a file names itself in its first lines, or "".

    Args:
        text: of the whole file, with "\\n" newlines. A line is a tag when nothing but punctuation stands before
            `SPDX-License-Identifier:`, so that code which handles such tags is not taken for one.
    Returns:
        The expression as written; several different tags all hold, so they are joined with AND.
    Example:
        >>> tagged_licence("#!/bin/python\\n# SPDX-License-Identifier: MPL-2.0\\nx = 1\\n")
        'MPL-2.0'
        >>> tagged_licence('TAG = "SPDX-License-Identifier: MIT"\\n')
        ''

    Source: SPDX 2.3, annex E.
    """
    if "SPDX-License-Identifier" not in text:
        return ""
    head = "\n".join(text.split("\n", TAGGED_LINES)[:TAGGED_LINES])
    found = [" ".join(tag.split()).strip(" -:")[:MAX_CHARACTERS] for tag in _TAG.findall(head)]
    tags = list(dict.fromkeys(filter(None, found)))
    return tags[0] if len(tags) == 1 else " AND ".join(f"({tag})" if " " in tag else tag for tag in tags)


def _flattened(spdx: str) -> str:
    """Return the expression with every parenthesis judged and replaced, or "" if it is no expression."""
    text, before = " ".join(_WORDS.findall(spdx[: MAX_CHARACTERS + 1])), ""
    while text != before and len(spdx) <= MAX_CHARACTERS:
        before, text = text, _INNERMOST.sub(_judged, text)
    return text if _FLAT.fullmatch(text) and len(spdx) <= MAX_CHARACTERS else ""


def _judged(parenthesis: re.Match[str]) -> str:
    inner = parenthesis[1]
    return _STANDS_FOR[_all_choices(inner)] if _FLAT.fullmatch(inner) else parenthesis[0]


def _all_choices(flat: str) -> bool:
    return all(any(map(_COPYLEFT.match, _AND.split(choice))) for choice in _OR.split(flat))


def _is_listed(term: str) -> bool:
    try:
        canonicalize_license_expression(term)
    except InvalidLicenseExpression:
        return False
    return not term.lower().startswith("licenseref-")
