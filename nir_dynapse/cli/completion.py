"""The verb `completion`: scripts for bash, zsh and fish, complete in themselves and made from the parser.

A script that asked Python for every key would wait for it every time; these hold all verbs, options and values.
"""

from __future__ import annotations

import argparse
import re
import shlex
from typing import NamedTuple

from nir_dynapse.cli.output import Output
from nir_dynapse.cli.parser import parser

__all__ = ["completion", "script"]

BOARDS = ("virtual:0", "samna")
PROGRAM, FUNCTION = "nir-dynapse", "_nir_dynapse"


class Values(NamedTuple):
    """What may stand for a value: these words, files with these suffixes, any file; all empty where only the user knows."""

    words: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    files: bool = False


class Option(NamedTuple):
    """An option: its names, what it does, what its value is called ("" without one), and what that may be."""

    names: tuple[str, ...]
    help: str
    metavar: str
    values: Values
    optional: bool = False


class Verb(NamedTuple):
    """A verb with its options, and (name, values) of its arguments."""

    name: str
    purpose: str
    options: tuple[Option, ...]
    arguments: tuple[tuple[str, Values], ...]


def completion(args: argparse.Namespace, out: Output) -> int:
    text = script(args.shell)
    out.result({"shell": args.shell, "script": text}, text)
    return 0


def script(shell: str) -> str:
    """The script for "bash", "zsh" or "fish"."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](_verbs())


def _verbs() -> tuple[Verb, ...]:
    verbs = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    purposes = {choice.dest: choice.help or "" for choice in verbs._choices_actions}
    return tuple(_verb(name, purposes[name], verb) for name, verb in verbs.choices.items())


def _verb(name: str, purpose: str, verb: argparse.ArgumentParser) -> Verb:
    options, arguments = [], []
    for action in verb._actions:
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        if not action.option_strings:
            arguments.append((metavar, _values(action, metavar)))
            continue
        takes = action.nargs != 0
        names, text = tuple(action.option_strings), action.help or ""
        values = _values(action, metavar) if takes else Values()
        options.append(Option(names, text, metavar if takes else "", values, action.nargs == "?"))
    return Verb(name, purpose, tuple(options), tuple(arguments))


def _values(action: argparse.Action, metavar: str) -> Values:
    """What an option or argument takes, by its choices or by what help calls it (MODEL.nir, FILE, BOARD)."""
    if action.choices is not None:
        return Values(tuple(map(str, action.choices)))
    if metavar == "BOARD":
        return Values(BOARDS)
    suffixes = dict.fromkeys(re.findall(r"\.[a-z]+(?:\.gz)?", metavar.replace("[.gz]", "|.json.gz")))
    return Values(suffixes=tuple(suffixes), files=metavar in ("FILE", "OUT"))


# --- bash ------------------------------------------------------------------------------------------------------------

BASH = """# bash completion of nir-dynapse
@FUNCTION@() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= at=0 skip= words= suffixes= files= i word
    # readline cuts words at = and :
    [[ $cur == = ]] && cur=
    [[ $prev == = && COMP_CWORD -gt 1 ]] && prev=${COMP_WORDS[COMP_CWORD-2]}
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == [=:] ]]; then skip=1; continue; fi
        if [[ -n $skip ]]; then skip=; continue; fi
        case "$verb $word" in
@TAKES@) skip=1 ;;
            *" -"*) ;;
            " "*) verb=$word ;;
            *) at=$((at + 1)) ;;
        esac
    done
    case $verb in
        '') words=@VERBS@ ;;
@CASES@
    esac
    if [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    elif [[ -n $suffixes$files ]]; then
        local IFS=$'\\n'
        compopt -o filenames 2>/dev/null
        if [[ -n $files ]]; then
            COMPREPLY=($(compgen -f -- "$cur"))
        else
            COMPREPLY=($(compgen -d -- "$cur"; IFS=' '; for word in $suffixes; do compgen -f -X "!*$word" -- "$cur"; done))
        fi
    fi
}
complete -F @FUNCTION@ @PROGRAM@
"""


def _bash(verbs: tuple[Verb, ...]) -> str:
    takes = [f'"{v.name} {n}"' for v in verbs for o in v.options if o.metavar and not o.optional for n in o.names]
    names = " ".join([*(verb.name for verb in verbs), "--help", "--version"])
    return _filled(
        BASH,
        TAKES=" " * 12 + "|".join(takes),
        VERBS=shlex.quote(names),
        CASES="\n".join(_bash_verb(verb) for verb in verbs),
    )


def _bash_verb(verb: Verb) -> str:
    pad = " " * 8
    lines = [f"{pad}{verb.name})", f"{pad}    case $prev in"]
    for option in verb.options:
        if option.metavar and not option.optional:
            lines.append(f"{pad}        {'|'.join(option.names)}) {_bash_values(option.values)} ;;")
    options = shlex.quote(" ".join(name for option in verb.options for name in option.names if name.startswith("--")))
    lines.append(f"{pad}        *)")
    lines.append(f"{pad}            case $at$cur in")
    lines.append(f"{pad}                [0-9]-*) words={options} ;;")
    lines += [f"{pad}                {k}*) {_bash_values(values)} ;;" for k, (_, values) in enumerate(verb.arguments)]
    lines += [f"{pad}                *) words={options} ;;", f"{pad}            esac ;;", f"{pad}    esac ;;"]
    return "\n".join(lines)


def _bash_values(values: Values) -> str:
    if values.words:
        return f"words={shlex.quote(' '.join(values.words))}"
    if values.suffixes:
        return f"suffixes={shlex.quote(' '.join(values.suffixes))}"
    return "files=1" if values.files else "return"


# --- zsh -------------------------------------------------------------------------------------------------------------

ZSH = """#compdef @PROGRAM@
@FUNCTION@() {
    local context state state_descr line
    typeset -A opt_args
    local -a verbs=(
@VERBS@
    )
    _arguments -C '(-h --help)'{-h,--help}'[help]' '--version[print the version]' '1: :->verb' '*:: :->rest'
    case $state in
        verb) _describe -t verbs verb verbs ;;
        rest)
            case $words[1] in
@CASES@
            esac ;;
    esac
}
if [[ $funcstack[1] == _@PROGRAM@ ]]; then @FUNCTION@ "$@"; else compdef @FUNCTION@ @PROGRAM@; fi
"""


def _zsh(verbs: tuple[Verb, ...]) -> str:
    names = [f"        {shlex.quote(verb.name + ':' + _colons(verb.purpose))}" for verb in verbs]
    return _filled(ZSH, VERBS="\n".join(names), CASES="\n".join(_zsh_verb(verb) for verb in verbs))


def _zsh_verb(verb: Verb) -> str:
    specs = []
    for option in verb.options:
        text = "[" + re.sub(r"[\[\]\\]", r"\\\g<0>", option.help) + "]"
        value = f":{_colons(option.metavar)}:{_zsh_values(option.values)}" if option.metavar else ""
        value = f":{value}" if option.optional else value
        others = f"({' '.join(option.names)})"
        tail = ("=" if value else "", "+" if value else "")  # --out=FILE and --out FILE, -oFILE and -o FILE
        specs += [shlex.quote(f"{others}{name}{tail[name[1] != '-']}{text}{value}") for name in option.names]
    specs += [
        shlex.quote(f"{k}:{_colons(metavar)}:{_zsh_values(values)}")
        for k, (metavar, values) in enumerate(verb.arguments, 1)
    ]
    pad = " " * 16
    return f"{pad}{verb.name}) _arguments \\\n" + " \\\n".join(f"{pad}    {spec}" for spec in specs) + " ;;"


def _zsh_values(values: Values) -> str:
    if values.words:
        return f"({' '.join(map(_colons, values.words))})"
    if values.suffixes:
        return f'_files -g "*({"|".join(values.suffixes)})"'
    return "_files" if values.files else " "


def _colons(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", r"\:")


# --- fish ------------------------------------------------------------------------------------------------------------

FISH = """# fish completion of nir-dynapse
function __nir_dynapse_is
    set -l words (commandline -opc)
    test (count $words) -gt 1; and test $words[2] = $argv[1]
end
function __nir_dynapse_none
    test (count (commandline -opc)) -eq 1
end
complete -c @PROGRAM@ -f
complete -c @PROGRAM@ -n __nir_dynapse_none -l version -d 'print the version'
@LINES@
"""


def _fish(verbs: tuple[Verb, ...]) -> str:
    lines = [
        f"complete -c {PROGRAM} -n __nir_dynapse_none -a {v.name} -d {_fish_quoted(v.purpose.rstrip('.'))}"
        for v in verbs
    ]
    for verb in verbs:
        start = f"complete -c {PROGRAM} -n '__nir_dynapse_is {verb.name}'"
        for option in verb.options:
            names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names)
            value = f" {_fish_values(option.values)}" if option.metavar and not option.optional else ""
            lines.append(f"{start} {names}{value} -d {_fish_quoted(option.help)}")
        for _, values in verb.arguments:
            lines.append(f"{start} {_fish_values(values).removeprefix('-x').strip()}")
    return _filled(FISH, LINES="\n".join(lines))


def _fish_values(values: Values) -> str:
    if values.words:
        return f"-x -a {_fish_quoted(' '.join(values.words))}"
    if values.suffixes:
        each = "; ".join(f"__fish_complete_suffix {suffix}" for suffix in values.suffixes)
        return f"-x -k -a '({each})'"
    return "-r -F" if values.files else "-x"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _filled(template: str, **parts: str) -> str:
    """`template` with each @NAME@ replaced."""
    for name, text in {"PROGRAM": PROGRAM, "FUNCTION": FUNCTION, **parts}.items():
        template = template.replace(f"@{name}@", text)
    return template
