"""A run.toml for files that nobody has described, and a table of what was guessed for it.

The file says in comments what each line was guessed from and how sure that is; the table says the
same shorter. It is written for a person who goes through it once and changes what is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.guessing import Draft, TableGuess, guess_tables
from pipelines.roles import GUESS, LIKELY, NUMBERS, SURE, TEXT
from pipelines.samples import Column, Sample, look
from recsys.dialect import fits_number, time_words
from recsys.errors import ConfigError, SchemaError
from recsys.schema import TABLES, EventRule

REPEATED = 0.1  # of the events repeat an item: as split.repeat_share
HEAD = """\
# Written by recsys init from the first rows of your files. Behind each line stands how sure it is
# (sure, likely, a guess) and what it was guessed from; change what is wrong, then
#     recsys validate -c {out}    checks all rows
#     recsys run -c {out}         learns, makes every user's list, publishes
# Lines that begin with "#" and no space show a default; take the "#" off to change it.

run_dir = {run_dir}  # prepared data, embeddings, reports, and the MLflow database
#seed = 0  # the same seed, data and machine give the same model
"""
TAIL = """
[split]
#protocol = "auto"  # time: learn from the past, measure on the future; leave_last_out: order only
#seen = "auto"  # list again what a user had? in the first rows {repeats:.0%} repeat: {seen}

[training]
#max_epochs = 20  # of the head over the encoder; it stops early when it gets no better

[tracking]
#uri = ""  # of an MLflow server; empty: a database in run_dir

[serving]
releases = {releases}  # the batch job writes one folder for each release into it
store = {store}  # what the read API reads; recsys publish fills it
#k = 20  # items in a list
"""
RANKS = {0: "returned, disliked or only shown", 1: "click-like", 2: "wanted", 3: "purchase-like"}


def write_config(files: Sequence[str], out: Path, force: bool = False) -> Draft:
    """Look at files, guess what they are, and write a config for them.

    Args:
        files: paths of files or folders.
        out: the TOML file to write.
        force: replace it if it is there.

    Raises:
        ConfigError: it is there, its folder is not, a file cannot be read, or the files hold no
            events or no items.
    """
    if out.exists() and not force:
        raise ConfigError(f"{out} exists; --force replaces it, --out FILE writes another")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: there is no folder {out.parent}; make it or name another file")
    samples: list[Sample] = []
    wrong = []
    for path in dict.fromkeys(files):
        try:
            samples.append(look(path))
        except SchemaError as error:
            wrong.append(f"{path}: cannot be read ({error})")
    if wrong:
        raise ConfigError("\n".join(wrong))
    draft = guess_tables(samples)
    text = config_text(draft, out)
    temp = out.with_name(f".{out.name}.tmp")
    temp.write_text(text, encoding="utf-8")
    temp.replace(out)
    return draft


def config_text(draft: Draft, out: Path) -> str:
    """Write the config: the text of a TOML file."""
    run_dir = "runs/" + ("mine" if out.stem == "run" else out.stem)
    head = HEAD.format(out=out, run_dir=_toml(run_dir))
    lines = ["[data]", f'text = "auto"  # what the encoder reads: {", ".join(_texts(draft))}',
              "#memory_limit = \"2GB\"  # for preparing the log, however large it is"]  # fmt: skip
    lines += [f"# not used: {table.sample.path}" for table in draft.unused]
    for table in draft.events:
        lines += ["", "[[data.events]]", *_source(table)]
    lines += ["", "[data.items]", *_source(draft.items)]
    if draft.users:
        lines += ["", "[data.users]  # only its ids are checked, nothing reads it yet",
                  *_source(draft.users)]  # fmt: skip
    lines += ["", "# What an event is worth: 0 = shown or disliked, 1 = click-like, 2 and more =",
              "# purchase-like. The first rule that holds counts.",
              "[data.event_types]"]  # fmt: skip
    for name, (rules, sure) in draft.rules.items():
        meant = RANKS[rules[0].grade] if len(rules) == 1 else "by its value"
        key = name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _toml(name)
        lines.append(f"{key} = {_rules(rules)}  # {sure}: {meant}")
    seen = "auto would list it" if draft.repeats >= REPEATED else "auto would leave it out"
    tail = TAIL.format(repeats=draft.repeats, seen=seen, releases=_toml(f"{run_dir}/releases"),
                       store=_toml(f"{run_dir}/store"))  # fmt: skip
    return "\n".join([head, *(re.sub(r"[\x00-\x1f\x7f]", " ", line) for line in lines), tail])


def guess_table(draft: Draft) -> Any:
    """Draw what was guessed, from what, and how sure it is."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("file", "is", "yours", "ours", "how sure", "guessed from")
    unused = [replace(one, kind="") for one in draft.unused]
    tables = [*draft.events, draft.items, *([draft.users] if draft.users else []), *unused]
    for one in tables:
        name, kind = Path(one.sample.path).name, one.kind or "not used"
        for yours, ours, sure, why in _facts(one):
            table.add_row(*map(escape, (name, kind, yours, ours, sure, why)))
            name = kind = ""
        table.add_section()
    for name, (rules, sure) in draft.rules.items():
        table.add_row("", "event", escape(name), escape(_grades(rules)), sure, "its name")
    return table


def _facts(table: TableGuess) -> list[tuple[str, str, str, str]]:
    """List (theirs, ours, how sure, why) of a table."""
    facts = [(_dialect_words(table), "dialect", SURE, "the first bytes")]
    if not table.kind:
        return [("", "", "", f"columns {', '.join(table.sample.columns)}")]
    if table.event_type:
        one = table.event_type
        facts.append((one.value, "event_type of all", one.sure, one.why))
    for ours, one in table.found.items():
        if ours in TABLES[table.kind]:
            sure, why = _time(table, ours) if ours == "timestamp" else (one.sure, one.why)
            facts.append((one.value, ours, sure, why))
    return facts + [("", "", "", note) for note in table.notes]


def _source(table: TableGuess) -> list[str]:
    """Write the lines of a source."""
    said = {"path": table.sample.path, **_dialect(table)}
    comments = {"delimiter": f"{SURE}: in every one of the first lines",
                "encoding": f"{_encoding_sure(table)}: by the first bytes"}  # fmt: skip
    if "time" in said:
        comments["time"] = ": ".join(_time(table, "timestamp"))
    if "decimal" in said:
        comments["decimal"] = _number(table)
    lines = [f"{key} = {_toml(value)}" + f"  # {comments.get(key, '')}".rstrip(" #")
             for key, value in said.items()]  # fmt: skip
    if table.event_type:
        one = table.event_type
        lines.append(f"event_type = {_toml(one.value)}  # {one.sure}: {one.why}")
    lines += [f"# {note}" for note in table.notes]
    lines += [f"{key} = {_toml(value)}" for key, value in table.settings.items()]
    for ours, one in table.found.items():
        if ours in TABLES[table.kind] and table.settings.get("shown") != one.value:
            lines.append(f"columns.{ours} = {_toml(one.value)}  # {one.sure}: {one.why}")
    known = {one.value for one in table.found.values()}
    rest = [name for name in table.sample.columns if name not in known]
    return lines + ([f"# not read: {', '.join(rest)}".replace("\n", " ")] if rest else [])


def _dialect(table: TableGuess) -> dict[str, str]:
    """Return what a source must say about how it is written."""
    plain = table.sample.source
    said = plain.model_dump(include={"delimiter", "encoding"}, exclude_defaults=True)
    odd = [c.decimal for c in _numbers(table) if c.decimal not in ("", "plain")]
    odd = odd or [","] * _rather_thousands(table)
    times = [o for o in ("timestamp", "available_from") if o in _ours(table)]
    way = table.column(times[0]).times[0] if times else "iso"
    return said | ({"decimal": odd[0]} if odd else {}) | ({"time": way} if way != "iso" else {})


def _encoding_sure(table: TableGuess) -> str:
    return (
        SURE if table.sample.source.encoding.startswith("utf") else LIKELY
    )  # no cp1252 is illegal


def _ours(table: TableGuess) -> set[str]:
    return set(table.found) & set(TABLES[table.kind]) if table.kind else set()


def _dialect_words(table: TableGuess) -> str:
    said = _dialect(table) if table.kind else {}
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in said.items()) or "plain"


def _time(table: TableGuess, ours: str) -> tuple[str, str]:
    """Say how sure the way of writing times is, and from what."""
    column, one = table.column(ours), table.found[ours]
    if len(column.times) > 1:
        return GUESS, f"day and month of {column.examples[0]} cannot be told apart; maybe " + (
            " or ".join(column.times[1:]))  # fmt: skip
    sure = one.sure if one.sure != LIKELY else SURE
    return sure, f"{column.examples[0]} is {time_words(column.examples[0], column.times[0])}"


def _number(table: TableGuess) -> str:
    """Say how sure the decimal sign is, and from what: "1,234" may be one or a thousand."""
    odd = [v for c in _numbers(table) for v in c.examples if not fits_number([v], "plain")]
    if not odd:
        pointed = next(v for c in _numbers(table) for v in c.examples if "." in v)
        return f"{GUESS}: {pointed} may be thousands or decimals"
    both = all(fits_number([value], way) for value in odd for way in (".", ","))
    return f"{GUESS if both else SURE}: as in {odd[0]}"


def _numbers(table: TableGuess) -> list[Column]:
    return [table.column(ours) for ours in NUMBERS if ours in _ours(table)]


def _rather_thousands(table: TableGuess) -> bool:
    """Whether "1.234" is rather a thousand: semicolons or decimal commas are around it."""
    numbers, others = _numbers(table), table.sample.columns.values()
    either = any(c.thousands for c in numbers)
    comma = table.sample.source.delimiter == ";" or any(c.decimal == "," for c in others)
    return either and comma and all(fits_number(c.examples, ",") for c in numbers)


def _texts(draft: Draft) -> list[str]:
    there = [ours for ours in TEXT if ours in draft.items.found]
    return [draft.items.found[ours].value for ours in there]


def _rules(rules: Sequence[EventRule]) -> str:
    one = [", ".join(f"{key} = {_toml(value)}" for key, value in
                     rule.model_dump(exclude_defaults=True).items()) for rule in rules]  # fmt: skip
    written = [f"{{ {rule} }}" for rule in one]
    return written[0] if len(written) == 1 else f"[{', '.join(written)}]"


def _grades(rules: Sequence[EventRule]) -> str:
    steps = [f"{rule.grade}" + (f" from {rule.min_value:g}" if rule.min_value is not None else "")
             for rule in rules]  # fmt: skip
    return "grade " + ", else ".join(steps)


def _toml(value: Any) -> str:
    """Write a value as TOML, which for these is JSON but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
