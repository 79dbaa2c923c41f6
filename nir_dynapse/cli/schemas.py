"""The verb `schema`: JSON Schemas of what the verbs print with --json, and of their errors.

Objects may gain fields in later versions; those described here stay.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from nir_dynapse.cli.output import Output
from nir_dynapse.cli.parser import SHELLS

__all__ = ["schema", "schema_of"]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = Mapping[str, Any]


def schema(args: argparse.Namespace, out: Output) -> int:
    data = schema_of(args.of)
    out.result(data, json.dumps(data, indent=1))
    return 0


def schema_of(verb: str) -> dict[str, Any]:
    """The schema of what `verb` prints with --json; of "error": of what it prints where it fails (exit codes 1 and 3)."""
    title = "What any verb prints with --json where it fails" if verb == "error" else f"nir-dynapse {verb} --json"
    return {"$schema": DRAFT, "title": title, **SCHEMAS[verb]}


# --- words of the language -------------------------------------------------------------------------------------------


def _is(kind: str, meaning: str = "", **limits: Any) -> dict[str, Any]:
    return {"type": kind, **limits, **({"description": meaning} if meaning else {})}


def _text(meaning: str = "", *allowed: str) -> dict[str, Any]:
    return _is("string", meaning, **({"enum": list(allowed)} if allowed else {}))


def _count(meaning: str = "") -> dict[str, Any]:
    return _is("integer", meaning, minimum=0)


def _number(meaning: str = "", **limits: Any) -> dict[str, Any]:
    return _is("number", meaning, **limits)


def _share(meaning: str) -> dict[str, Any]:
    return _number(meaning, minimum=0, maximum=1)


def _list(of: Schema, meaning: str = "", **limits: Any) -> dict[str, Any]:
    return {**_is("array", meaning, **limits), "items": of}


def _map(of: Schema, meaning: str = "") -> dict[str, Any]:
    return {**_is("object", meaning), "additionalProperties": of}


def _or_null(schema: Schema, meaning: str = "") -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}], **({"description": meaning} if meaning else {})}


def _object(meaning: str = "", optional: Mapping[str, Schema] | None = None, /, **required: Schema) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {**_is("object", meaning), "properties": properties, "required": list(required)}


# --- parts that several verbs print ----------------------------------------------------------------------------------

ANY = {"type": ["number", "string"]}
FILES = _list(_text(), "paths of the files that were written")
USE = _object("", used=_count(), available=_count())
FINDING = _object(
    "one thing that was refused (error), approximated (warning) or remarked (info)",
    {
        "node": _text("name of the NIR node"),
        "index": _count("neuron or channel in the node, the worst of several"),
        "count": _count("neurons of the node that it is true of, where they are several"),
        "copy": _count("which of the neurons that stand for this one, where several do"),
        "used": ANY,
        "limit": ANY,
        "unit": _text("unit of used and limit"),
        "hint": _text("what to do about it"),
    },
    severity=_text("", "error", "warning", "info"),
    code=_text("stays the same over versions"),
    what=_text("the sentence"),
)
FINDINGS = _list(FINDING, "worst first")
WARNINGS = _list(
    FINDING, "about how the network was read, which all numbers depend on, and what of the data is left out"
)
ACCURACY_FIELDS = {
    "name": _text("the run"),
    "correct": _count("samples"),
    "total": _count("samples"),
    "agreement": _share("samples with the same class as the ideal run"),
    "ties": _count("samples where several output neurons share the most spikes"),
    "silent": _count("samples without an output spike"),
    "rate": _or_null(_number("spikes per sample and output neuron"), "null for a readout on the host"),
}
BY_TIME = {
    "first_spike": _or_null(_count("samples that are right where the first spike decides"), "null unless asked for")
}
ACCURACY = _object("", BY_TIME, **ACCURACY_FIELDS)
CONVERSION = _list(
    _object(
        "",
        node=_text("name of the NIR node"),
        kind=_text("NIR type"),
        becomes=_text(),
        verdict=_text("how exactly it was read"),
        on_chip=_text("what the chip makes of it"),
        note=_text(),
        changes=_list(_object("", value=_text("name"), before=_text(), after=_text())),
    ),
    "what becomes of each NIR node; empty where only a Layout is known",
)
CHIPS = _object(
    "accuracies on many virtual chips, as shares of the samples",
    {
        "first_spike": _object(
            "where the first spike decides, if asked for",
            nominal=_share("on a chip without mismatch"),
            median=_share("over the chips"),
            quantile_5=_share("of the worst twentieth"),
            minimum=_share("on the worst chip"),
            accuracy=_list(_share("of each chip, in the order of seeds")),
        )
    },
    devices=_count(),
    samples=_count(),
    nominal=_share("on a chip without mismatch"),
    median=_share("over the chips"),
    quartiles=_list(_share("25 % and 75 %"), minItems=2, maxItems=2),
    quantile_5=_share("of the worst twentieth"),
    minimum=_share("on the worst chip"),
    mean=_share("over the chips"),
    worst=_count("seed of the worst chip"),
    seeds=_list(_count("virtual:SEED")),
    accuracy=_list(_share("of each chip, in the order of seeds")),
    ties=_list(_count("samples of each chip")),
    silent=_list(_count("samples of each chip")),
)
NODES = _map(
    _object(
        "",
        neurons=_count(),
        spikes=_count("of all samples"),
        rate_hz=_number("mean per neuron", minimum=0),
        silent_neurons=_count(),
    ),
    "NIR node -> what its neurons did",
)
REPORT_FIELDS: dict[str, Schema] = {
    "format": {"const": "nir_dynapse.report"},
    "version": _is("integer", minimum=1),
    "title": _text(),
    "provenance": _is("object", "file, hash, options, seed and versions that it came from"),
    "accuracy": _list(
        _object(
            "",
            {
                "before": _text("the run that it follows by one step"),
                "points": _number("of % that this step wins; a loss is negative"),
                **BY_TIME,
            },
            **ACCURACY_FIELDS,
            accuracy=_share("correct / total"),
        ),
        "one row per run",
    ),
    "nodes": _list(
        _object(
            "",
            {"copies": _count("neurons of the chip that stand for each of the node's, where several do")},
            name=_text(),
            kind=_text(),
            neurons=_count(),
            fan_in=USE,
            cores=_list(_text("chip.core")),
            tonic=_count("rows of the fan-in that a constant input takes"),
        ),
        "spiking nodes",
    ),
    "projections": _list(_object("", node=_text(), source=_text(), target=_text(), synapses=_count())),
    "cores": _list(
        _object(
            "",
            chip=_count(),
            core=_count(),
            nodes=_map(_count("neurons")),
            **dict.fromkeys(("neurons", "cam_rows", "fan_in", "sram_rows", "tags"), USE),
            base_currents=_map(_number("A")),
            bias_group=_count("cores with the same number are set alike"),
        ),
        "used cores; empty before anything was placed",
    ),
    "chips": _list(
        _object("", chip=_count(), **dict.fromkeys(("cores", "neurons", "cam_rows", "sram_rows", "bias_groups"), USE))
    ),
    "approximations": FINDINGS,
    "findings": FINDINGS,
    "checks": _list(_text("what was verified")),
    "conversion": CONVERSION,
    "weight_errors": _is(
        "object", "what rounding cost per core, projection and neuron; errors relative to the weights"
    ),
    "virtual_chips": _map(CHIPS, "run -> accuracies on many chips"),
}
LATE: dict[str, Schema] = {
    "delays": _object(
        "only where connections are late; times in s",
        nodes=_map(
            _list(_list(_number()), "asked for, connections, on the chip on average, largest error, spread"), "NIR node"
        ),
        lost=_count("late connections without a CAM row"),
        cores=_map(_list(_or_null(_number())), "chip.core -> precise and mismatched delay"),
    )
}
REPORT = _object("", LATE, **REPORT_FIELDS)
WRITTEN = _object("", LATE, **REPORT_FIELDS, files=FILES)
RUN_FIELDS: dict[str, Schema] = {
    "run": _text("what ran it"),
    "samples": _count(),
    "nodes": NODES,
    "files": FILES,
    "findings": WARNINGS,
}
DEVICE = _object(
    "of the whole stack; currents in A, capacitors in F, voltages in V",
    name=_text(),
    n_chips=_count(),
    cores_per_chip=_count(),
    neurons_per_core=_count(),
    cam_rows=_count("per neuron: its fan-in"),
    sram_rows=_count("per neuron: its destinations"),
    n_tags=_count("per core"),
    max_stack=_count("chips"),
    n_neurons=_count(),
    n_cores=_count(),
    circuit=_map(_number()),
    mismatch=_is("object", "std/mean of each kind of analog element"),
)
PARAMETERS = _list(
    _object(
        "one parameter of a bias group",
        name=_text(),
        bias=_text("name of the bias on the chip"),
        kind=_text(),
        meaning=_text(),
        cv=_number("std/mean over neurons", minimum=0),
        lowest_a=_number("A", minimum=0),
        highest_a=_number("A", minimum=0),
    )
)
CONSTANTS = _list(
    _object(
        "one constant of the circuits",
        name=_text(),
        value=_number("in its unit"),
        unit=_text("of the SI; none for a ratio"),
        meaning=_text(),
        source=_text(),
        certainty=_text("", "high", "medium", "low", "assumed"),
        set=_text("the first set of constants with this value"),
    )
)
PRIMITIVES = _map(_object("", verdict=_text(), meaning=_text(), reason=_text(), alternative=_text()), "NIR type ->")
FRONTENDS = _list(
    _object(
        "what the exporter of one frontend does",
        name=_text("for --frontend"),
        release=_text("of the package that it was measured with"),
        unit=_text("what a unit of time in its files is", "time", "steps"),
        gains=_text("what it writes for r"),
        reset=_text("of its neurons, by default"),
        writes=_list(_text("NIR type")),
        left_open=_text("what its files do not say"),
    )
)
READERS = _list(
    _object(
        "what one reader of NIR files takes",
        name=_text("for --for"),
        release=_text("of the package that it was measured with"),
        call=_text("how it reads a file"),
        unit=_text("what the times of its files are in"),
        file=_text("what a file for it holds"),
        lacks=_text("what it cannot do"),
    )
)
CHIP = _object(
    "one chip of the board",
    name=_text(),
    bad_neurons=_count(),
    bad_rows=_list(_list(_share("of the CAM rows of one half of the tags")), "per core"),
    unreachable_tags=_list(_count(), "per core"),
    scales=_map(_list(_number(minimum=0)), "bias -> what flows / what the bias generator says, per core"),
    factors_of=_list(_text(), "biases whose factors were measured for each neuron"),
    measured=_is("object", "how it was measured, and how well"),
)
ITEM = _object(
    "",
    name=_text(),
    state=_text("", "ok", "missing", "placeholder"),
    need=_text("", "required", "optional"),
    detail=_text("version or place"),
    remedy=_text("what to do"),
)
CACHED = _object(
    "what is compiled once and kept on disk",
    folder=_text("of the package"),
    writable=_is("boolean", "whether anything can be kept there"),
    kernels=_list(_text("compiled for this machine: call and precision")),
    programs=_object(
        "of JAX",
        folder=_or_null(_text("the package's or the user's own"), "null where JAX keeps none"),
        number=_count(),
        megabytes=_number("all together", minimum=0),
    ),
)

SCHEMAS: dict[str, Schema] = {
    "deploy": WRITTEN,
    "check": REPORT,
    "compile": WRITTEN,
    "import": WRITTEN,
    "export": WRITTEN,
    "finetune": _object(
        "",
        steps=_or_null(_count(), "steps of training so far; null where nothing was left to do"),
        best_step=_or_null(_count(), "the step whose state was kept; null without a check"),
        held_out=_or_null(_number("on held-out chips: accuracy, with --teacher minus the distance")),
        held_out_low=_or_null(_number("the 5 % quantile of the chips")),
        loss=_or_null(_number("at that step")),
        rows=_count("CAM rows"),
        seconds=_number("that all of it took", minimum=0),
        next=_list(_text("command that uses what was written")),
        files=FILES,
        findings=WARNINGS,
    ),
    "simulate": _object("", **RUN_FIELDS, accuracy=_or_null(ACCURACY, "null where the classes are not the output's")),
    "evaluate": {**CHIPS, "properties": {**CHIPS["properties"], "findings": WARNINGS}},
    "run": _object(
        "",
        **RUN_FIELDS,
        duration_s=_number("of one run", minimum=0),
        accuracy=_or_null(ACCURACY, "null for event lists and without labels"),
        unknown_events=_count("events that nobody in the Layout sends"),
    ),
    "calibrate": _object("", board=_text(), chips=_list(CHIP), files=FILES),
    "show": {
        "anyOf": [
            {"title": "show device", **DEVICE},
            {"title": "show parameters", **PARAMETERS},
            {"title": "show constants", **CONSTANTS},
            PRIMITIVES,
            {"title": "show frontends", **FRONTENDS},
            {"title": "show readers", **READERS},
        ]
    },
    "doctor": _object("", ok=_is("boolean", "whether everything required is there"), items=_list(ITEM), cached=CACHED),
    "schema": _is("object", "a JSON Schema"),
    "completion": _object("", shell=_text("", *SHELLS), script=_text("what to source")),
    "error": _object(
        "printed on stdout; stderr has the same in words",
        {"conversion": CONVERSION},
        error=_text("all findings, one a line"),
        type=_text("class of the error, or WrongUsage"),
        findings=FINDINGS,
    ),
}
"""Of every verb, without the head that `schema_of` adds."""
