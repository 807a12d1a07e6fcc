import duckdb
import pyarrow as pa
import pytest

from recsys.languages import STOP_WORDS, UNCLEAR, languages_sql


def glance(*texts):
    with duckdb.connect(":memory:") as con:
        con.register("texts", pa.table({"text": list(texts)}))
        return dict(con.execute(languages_sql("texts")).fetchall())


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The lamp of the old house, with a shade", "English"),
        ("Eine Lampe für das Wohnzimmer und den Flur", "German"),
        ("Une lampe pour le salon avec abat-jour", "French"),
        ("Lámpara para el salón", "Spanish"),
        ("Lampada per il salotto della casa", "Italian"),
        ("Uma lâmpada da casa não usada", "Portuguese"),
        ("Een lamp voor het huis", "Dutch"),
        ("RED LAMP 40 W", UNCLEAR),
        ("Лампа для дома", "Cyrillic"),
        ("مصباح للمنزل", "Arabic"),
        ("מנורה לבית", "Hebrew"),
        ("家用台灯", "Chinese"),
        ("家のランプ", "Japanese"),  # two kinds of signs, one language
        ("집을 위한 램프", "Korean"),
        ("iPhone 用スマートフォンケース", "Japanese"),
        ("🙂 12345 !!", "no letters"),
    ],
)
def test_a_text_is_of_its_language(text, language):
    assert glance(text) == {language: 1}


def test_languages_come_most_frequent_first_and_no_text_counts_for_none():
    found = glance("the lamp", "the house", "der Topf", "", "40 W")
    assert list(found.items()) == [("English", 2), ("German", 1), (UNCLEAR, 1)]


def test_no_word_tells_two_languages():
    words = [word for some in STOP_WORDS.values() for word in some.split()]
    twice = {word for word in words if words.count(word) > 1}
    assert twice == set()
