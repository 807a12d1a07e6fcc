"""Which languages texts are in, at a glance: by script, and for Latin script by a few stop words.

A glance, no more: a title of three words often holds no stop word, and a language that is not in
the table below counts as one whose words are not known. Like `recsys.reading` it is only SQL of
DuckDB; whoever has the database runs it.
"""

from __future__ import annotations

from recsys.queries import literal

MOST_TEXTS = 20_000  # looked at, spread evenly over the catalogue
MOST_CHARACTERS = 1_000  # of each
SCRIPTS = {  # and Latin; of several, the one with most letters counts
    "Cyrillic": r"\p{Cyrillic}",
    "Greek": r"\p{Greek}",
    "Arabic": r"\p{Arabic}",
    "Hebrew": r"\p{Hebrew}",
    "Devanagari": r"\p{Devanagari}",
    "Thai": r"\p{Thai}",
    "Korean": r"\p{Hangul}",
    "Japanese": r"\p{Hiragana}\p{Katakana}",
    "Chinese": r"\p{Han}",
}
STOP_WORDS = {  # frequent words that the others do not have
    "English": "the and of with for this that are your from",
    "German": "und der das mit für ein eine ist von den auf zum nicht",
    "French": "le les des et une du pour avec est dans sur aux vous",
    "Spanish": "el los las para por del y",
    "Italian": "il della di che per gli nel dei delle sono",
    "Portuguese": "uma não dos ao da são pelo seus",
    "Dutch": "het een van voor met zijn niet uit",
}
UNCLEAR = "Latin script, no word that tells"


def languages_sql(table: str) -> str:
    """SQL of (language, texts), most frequent first, of the column `text` of `table`."""
    letters = ", ".join(
        f"length(regexp_replace(foreign_part, '[^{signs}]+', '', 'g')) AS {name}"
        for name, signs in SCRIPTS.items()
    )
    words = ", ".join(
        f"len(list_intersect(words, [{', '.join(literal(word) for word in some.split())}]))"
        f" AS {name}"
        for name, some in STOP_WORDS.items()
    )
    return f"""
    WITH parts AS (SELECT left(text, {MOST_CHARACTERS}) AS part FROM {table} WHERE text <> ''),
    letters AS (SELECT regexp_replace(part, '\\P{{L}}+', ' ', 'g') AS part FROM parts),
    split AS (
        SELECT part, regexp_replace(part, '[ \\p{{Latin}}]+', '', 'g') AS foreign_part FROM letters
    ),
    scripts AS (
        SELECT part, length(replace(part, ' ', '')) - length(foreign_part) AS Latin, {letters}
        FROM split
    ),
    worded AS (
        SELECT {_largest(["Latin", *SCRIPTS], "'no letters'")} AS script,
            list_distinct(string_split(lower(part), ' ')) AS words
        FROM (SELECT * REPLACE (CASE WHEN Japanese > 0 THEN Japanese + Chinese ELSE 0 END
                                AS Japanese) FROM scripts)
    ),
    counted AS (SELECT script, {words} FROM worded)
    SELECT CASE WHEN script <> 'Latin' THEN script
           ELSE {_largest(list(STOP_WORDS), literal(UNCLEAR))} END AS language, count(*) AS texts
    FROM counted GROUP BY language ORDER BY texts DESC, language
    """


def _largest(columns: list[str], none: str) -> str:
    """SQL of the name of the largest of `columns`, the first of several; `none` if all are 0."""
    most = f"greatest({', '.join(columns)})"
    cases = " ".join(f"WHEN {name} = {most} THEN {literal(name)}" for name in columns)
    return f"CASE WHEN {most} = 0 THEN {none} {cases} END"
