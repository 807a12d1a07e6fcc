"""What a name says, in four languages and any spelling."""

import pytest

from pipelines.naming import COLUMNS, column_scores, event_of, grades, likeness, plain


@pytest.mark.parametrize(
    ("name", "plainer"),
    [("userId", "user_id"), ("Kunden-Nr.", "kunden_nr"), ("Stück Preis", "stueck_preis"),
     ("catégorie", "categorie"), ("InvoiceDate", "invoice_date"), ("客户", "")],
)  # fmt: skip
def test_a_name_is_plain_without_case_accents_and_separators(name, plainer):
    assert plain(name) == plainer


@pytest.mark.parametrize(
    ("name", "ours"),
    [("customer_id", "user_id"), ("Kundennummer", "user_id"), ("reviewerID", "user_id"),
     ("visitorid", "user_id"), ("ArtikelNr", "item_id"), ("StockCode", "item_id"),
     ("parent_asin", "item_id"), ("code_produit", "item_id"), ("Bestelldatum", "timestamp"),
     ("unixReviewTime", "timestamp"), ("t_dat", "timestamp"), ("fecha", "timestamp"),
     ("UnitPrice", "price"), ("prix", "price"), ("precio", "price"), ("Menge", "value"),
     ("overall", "value"), ("product_name", "title"), ("Bezeichnung", "title"),
     ("Artikelbezeichnung", "title"), ("titre", "title"), ("detail_desc", "description"),
     ("genres", "category"), ("Warengruppe", "category"), ("marca", "brand"),
     ("page", ""), ("url", ""), ("x1", "")],
)  # fmt: skip
def test_a_column_is_known_by_its_name(name, ours):
    scores = column_scores(name)
    assert max(scores, key=scores.get, default="") == ours


def test_the_name_of_a_product_is_no_id_of_one():
    assert "item_id" not in column_scores("product_name")


def test_the_same_says_more_than_a_word_and_that_more_than_a_part():
    words = "customer kunde"
    names = ("Kunde", "kunde_alt", "Kundenkreis", "Hund")
    assert [likeness(name, words) for name in names] == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("name", "event"),
    [("page_views", ("view", 1)), ("Seitenaufrufe", ("view", 1)), ("addtocart", ("cart", 2)),
     ("Warenkorb", ("cart", 2)), ("Bestellungen", ("purchase", 3)), ("achats", ("purchase", 3)),
     ("transaction", ("purchase", 3)), ("ratings_small", ("rating", 1)), ("Retoure", ("return", 0)),
     ("dislike", ("return", 0)), ("impression", ("shown", 0)), ("data", None)],
)  # fmt: skip
def test_an_event_is_known_by_its_name(name, event):
    assert event_of(name) == event


def test_grades_rise_from_what_was_shown_to_what_was_bought():
    found = grades(["impression", "click", "cart", "buy", "zap"])
    assert list(found.values()) == [(0, True), (1, True), (2, True), (3, True), (1, False)]


def test_no_word_means_two_columns():
    words = [word for some in COLUMNS.values() for word in some.split()]
    assert len(words) == len(set(words))
