"""SARIF 2.1.0: each distinct clone as one result, at the generated text, with the place of the training code.

A result is an error when a failing ceiling counts it, a note when it is planted or allowed, else a warning. Allowed
clones are suppressed, with the reason as justification. Places are organization, path and lines; no code is written.
Not covered: measurements without clones.
Sources: OASIS SARIF 2.1.0; GitHub's limits on uploaded files (25,000 results in a run, of which it shows 5,000).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pytest_collabcode import __version__
from pytest_collabcode.licences import is_copyleft
from pytest_collabcode.records import Clone, Fragment, Measurement, Ruling, Verdict

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
MAX_RESULTS = 25_000
"""A file with more results in a run is refused by GitHub."""

_RULES = (
    ("planted-clone", "PlantedClone", "note", "Planted training code came back: the positive control of the gate."),
    ("licence-header-clone", "LicenceHeaderClone", "warning", "A licence header of the training code came back."),
    ("copyleft-clone", "CopyleftClone", "error", "Training code under a copyleft licence came back."),
    (
        "cross-organization-clone",
        "CrossOrganizationClone",
        "error",
        "Training code that stands in two or more organizations' corpora came back.",
    ),
    ("near-clone", "NearClone", "error", "A near copy of a training function's body came back."),
    ("verbatim-clone", "VerbatimClone", "error", "Training code of one organization came back."),
)  # (id, name, level, what it says); a clone falls under the first that fits
_IDS = tuple(rule[0] for rule in _RULES)
_HELP = (
    "The generated lines equal consecutive lines of a training document under the normalization that the result "
    "names; those of a near clone are merely alike. Related locations name that document: its owner can look the "
    "lines up, nobody else is shown them. If the organizations agree to ignore them, add the fingerprint to an "
    "allow-list (--collabcode-allow=FILE)."
)
_LEVELS = ("error", "warning", "note")
_ESCAPES = str.maketrans({"{": "{{", "}": "}}", "[": "\\[", "]": "\\]", "\\": "\\\\"})  # placeholders, links

Key = tuple[str, Fragment, str]  # subject, generated fragment, source organization


def sarif_log(
    measurements: Sequence[Measurement],
    verdicts: Sequence[Verdict],
    *,
    environment: Iterable[tuple[str, str]] = (),
    max_results: int = MAX_RESULTS,
) -> dict[str, Any]:
    """Return a SARIF log with one run.

    Args:
        measurements: their evidence is reported; a clone that stands in several is one result.
        verdicts: decide which clones are errors.
        environment: versions and sizes, shown as properties of the run.
        max_results: the rest is left out, notes first, and a notification says so.
    Example:
        >>> log = sarif_log([], [])
        >>> log["version"], len(log["runs"]), log["runs"][0]["results"]
        ('2.1.0', 1, [])
    """
    found: dict[Key, tuple[Measurement, Clone]] = {}
    # Exact clones first: where a near one has the same place and source, it says no more.
    for measurement in sorted((*measurements, *(v.measurement for v in verdicts if v.measurement)), key=_is_near):
        for key, clone in _clones(measurement):
            found.setdefault(key, (measurement, clone))
    failing = {key for verdict in verdicts for key in _counted_against(verdict)}
    results = [_result(m, clone, failing=key in failing) for key, (m, clone) in found.items()]
    results.sort(key=lambda result: _LEVELS.index(result["level"]))
    notifications = []
    if len(results) > max_results:
        left_out = f"{len(results) - max_results} of {len(results)} clones are left out, the least severe ones"
        notifications.append({"level": "warning", "message": {"text": f"{left_out}; the JSON report has them all"}})
    run = {
        "tool": {"driver": _driver()},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notifications}],
        "results": results[:max_results],
        "columnKind": "unicodeCodePoints",
        "properties": dict(environment),
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def rule_of(clone: Clone, *, near: bool = False) -> str:
    """Return the id of the rule that a clone falls under.

    Args:
        clone: what was found.
        near: it is a near copy (type 3).
    Example:
        >>> generated = Fragment(organization="", path="t#0", first_line=1, last_line=6)
        >>> training = Fragment(organization="acme", path="x.py", first_line=1, last_line=6)
        >>> rule_of(Clone(generated=generated, training=training, significant_lines=6, fingerprint="3a2e",
        ...     licence="MPL-2.0"))
        'copyleft-clone'
    """
    fits = (clone.planted, clone.header, is_copyleft(clone.licence), clone.crosses, False, True)
    return "near-clone" if near else _IDS[fits.index(True)]


def _is_near(measurement: Measurement) -> bool:
    return measurement.name.startswith("near_clone")


def _clones(measurement: Measurement) -> Iterator[tuple[Key, Clone]]:
    for piece in measurement.evidence:
        if isinstance(piece, Clone):
            yield (measurement.subject, piece.generated, piece.training.organization), piece


def _counted_against(verdict: Verdict) -> Iterator[Key]:
    """Yield the clones that a failing ceiling counted; a floor that fails lacks clones."""
    ceiling = verdict.threshold.at_most is not None or verdict.threshold.max_drop is not None
    if verdict.measurement and ceiling and verdict.outcome is Ruling.FAIL:
        for key, _ in _clones(verdict.measurement):
            yield key


def _driver() -> dict[str, Any]:
    return {
        "name": "pytest-collabcode",
        "version": __version__,
        "rules": [
            {
                "id": rule,
                "name": name,
                "shortDescription": {"text": text},
                "fullDescription": {"text": text},
                "help": {"text": _HELP},
                "defaultConfiguration": {"level": level},
                "properties": {"tags": ["memorization"]},
            }
            for rule, name, level, text in _RULES
        ],
    }


def _result(measurement: Measurement, clone: Clone, *, failing: bool) -> dict[str, Any]:
    near, training = _is_near(measurement), clone.training
    rule = rule_of(clone, near=near)
    level = "note" if clone.planted or clone.allowed else "error" if failing else "warning"
    text = (
        f"{'Nearly ' * near}{clone.significant_lines} lines of {training} came back from {measurement.subject} "
        f"(prompt of {measurement.prompt_organization or 'no organization'}, fingerprint {clone.fingerprint})."
    )
    result = {
        "ruleId": rule,
        "ruleIndex": _IDS.index(rule),
        "level": level,
        "message": {"text": text.translate(_ESCAPES)},
        "locations": [_location(("generations", measurement.subject, clone.generated.path), clone.generated)],
        "relatedLocations": [
            {
                "id": 1,
                "message": {"text": f"training code of {training.organization}".translate(_ESCAPES)},
                **_location(("corpus", training.organization, *training.path.split("/")), training),
            }
        ],
        "partialFingerprints": {"collabcodeClone/v1": clone.fingerprint},
        "properties": _properties(measurement, clone),
    }
    if clone.allowed:
        suppression = {"kind": "external", "status": "accepted", "justification": clone.allowed}
        result["suppressions"] = [suppression]
    return result


def _properties(measurement: Measurement, clone: Clone) -> Mapping[str, object]:
    return {
        "subject": measurement.subject,
        "promptOrganization": measurement.prompt_organization,
        "sourceOrganization": clone.training.organization,
        "organizations": list(clone.organizations),
        "stratum": measurement.stratum,
        "normalization": dict(measurement.signature).get("normalization", ""),
        "significantLines": clone.significant_lines,
        "copies": clone.copies,
        "licence": clone.licence,
        "planted": clone.planted,
        "header": clone.header,
    }


def _location(segments: Sequence[str], fragment: Fragment) -> dict[str, Any]:
    """Return a physical location; each segment is percent-encoded whole, so that "/" and "#" in it stay apart."""
    place: dict[str, Any] = {
        "artifactLocation": {"uri": "/".join(quote(s, safe="", errors="surrogatepass") for s in segments)}
    }
    if fragment.first_line >= 1:  # a sealed fragment may have no lines
        place["region"] = {"startLine": fragment.first_line, "endLine": fragment.last_line}
    return {"physicalLocation": place}
