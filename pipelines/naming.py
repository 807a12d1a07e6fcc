"""What people call the columns, files and events that we know under our names.

English first, then German, French and Spanish. A name is compared without case, accents and
separators; what is not in here is told by the values.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

COLUMNS: dict[str, str] = {  # ours -> words for it
    "user_id": "user customer client visitor member household reviewer buyer account shopper "
    "kunde kunden kundin nutzer besucher kaeufer cliente usuario comprador utilisateur acheteur",
    "item_id": "item product article sku asin stock_code movie book song track game news isbn ware "
    "artikel produkt produit articulo producto parent_asin gameid beer recipe",
    "timestamp": "timestamp time date datetime datum zeit zeitpunkt uhrzeit fecha hora heure "
    "t_dat unix_review_time created_at viewed_at ordered_at bought_at when moment",
    "event_type": "event_type event type action interaction behavior behaviour ereignis aktion "
    "evenement evento accion",
    "value": "value rating overall stars score bewertung note sterne calificacion "
    "quantity qty menge anzahl stueck quantite cantidad",
    "price": "price unit_price preis stueckpreis einzelpreis prix prix_unitaire precio",
    "session_id": "session sitzung sesion",
    "request_id": "request impression_id",
    "position": "position slot platz",
    "order_index": "order_index sequence_number",
    "title": "title name titel titre titulo nombre nom bezeichnung artikelname produktname "
    "prod_name product_name item_name product_title designation libelle headline product_type",
    "description": "description beschreibung desc detail_desc overview abstract blurb details "
    "descripcion plot summary langtext text",
    "category": "category categories genre genres kategorie kategorien categorie categoria rubrik "
    "warengruppe main_category product_category product_group_name",
    "brand": "brand marke marque marca manufacturer hersteller author store vendor autor auteur",
    "available_from": "available_from",
    "available_until": "available_until",
}
RATINGS = "rating overall stars score bewertung note sterne calificacion"
QUANTITIES = "quantity qty menge anzahl stueck quantite cantidad"
IDS = "id nr no nummer number num code key uid uuid numero kennung schluessel"
# beside a word for an id: product_name is no product id
NOT_IDS = "name title type count date time datum url price text rating stars segment group age"
ENDINGS = ("bezeichnung", "gruppe", "datum", "preis", "beschreibung")  # of such German words
EVENTS: dict[str, tuple[int, str]] = {  # an event -> grade, words for it in files and columns
    "return": (0, "return returned refund storno retoure retour cancel devolucion dislike disliked "
               "remove removed skip skipped unlike hide thumbs_down"),
    "shown": (0, "shown impression impressions show exposure display served"),
    "purchase": (3, "purchase purchased buy bought order orders transaction transactions sale "
                 "sales checkout kauf gekauft bestellung bestellungen bestellt verkauf achat "
                 "achats commande commandes compra compras pedido pedidos venta retail"),
    "cart": (2, "cart basket addtocart warenkorb panier carrito wishlist favorite favourite "
             "favorit bookmark save saved like liked merkliste"),
    "rating": (1, "rating ratings review reviews rated bewertungen"),
    "view": (1, "view views viewed click clicks clicked clickstream visit pageview page_views "
             "play played read open opened listen watched ansicht ansichten aufruf aufrufe "
             "seitenaufrufe vue vues visite visita visitas detail product_view"),
}  # fmt: skip


def plain(name: str) -> str:
    """Return a name in lower case without accents, words joined by "_": "userId" is "user_id"."""
    cut = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    for letter, plainer in {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"}.items():
        cut = cut.lower().replace(letter, plainer)
    bare = unicodedata.normalize("NFKD", cut).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", bare).strip("_")


def likeness(name: str, words: str) -> int:
    """Say how much a name says one of some words: 3 the same, 2 it is one of its words, 1 a part.

    "id" and its like beside a word take nothing away: "customer_id" is the same as "customer".
    """
    tokens = plain(name).split("_")
    kept = [token for token in tokens if token not in IDS.split()] or tokens
    whole, known = "_".join(kept), words.split()
    if whole in known or plain(name) in known:
        return 3
    single = {word for word in known if "_" not in word}
    if single & set(kept) or any(f"_{w}_" in f"_{whole}_" for w in set(known) - single):
        return 2
    long = [word for word in single if len(word) >= 4]
    return int(any(t.startswith(w) or t.endswith(w) for t in kept for w in long))


def column_scores(name: str) -> dict[str, int]:
    """Say how much a column's name says each of ours, only those it says at all."""
    tokens = set(plain(name).split("_"))
    scores = {ours: likeness(name, words) for ours, words in COLUMNS.items()}
    for ours in ("user_id", "item_id", "session_id", "request_id"):
        if tokens & set(NOT_IDS.split()) or any(token.endswith(ENDINGS) for token in tokens):
            scores[ours] = 0
        elif scores[ours] and tokens & set(IDS.split()):
            scores[ours] += 1
    return {ours: score for ours, score in scores.items() if score}


def event_of(name: str) -> tuple[str, int] | None:
    """Tell what happens in an event or file of that name, and its grade."""
    found = {event: likeness(name, words) for event, (_, words) in EVENTS.items()}
    best = max(found, key=lambda event: found[event])
    return (best, EVENTS[best][0]) if found[best] else None


def grades(names: Iterable[str]) -> Mapping[str, tuple[int, bool]]:
    """Return event type -> its grade, and whether its name says so; else it is 1."""
    said = {name: event_of(name) for name in names}
    return {name: (one[1], True) if one else (1, False) for name, one in said.items()}
