"""Every feature the ranker can see: name, unit, meaning, and what it needs.

The catalogue is the contract between training and serving: its order is the order of the columns,
its names travel with the model, and `docs/features.md` is generated from it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from recsys.errors import ConfigError


@dataclass(frozen=True)
class Feature:
    """One column of the ranker's table."""

    name: str
    unit: str
    meaning: str
    family: str  # "user", "item", "pair" or "source"
    dated: bool = False  # needs dates: off where events only have an order
    text: bool = False  # computed from text: off in `ranker_without_text`
    optional: bool = False  # of an optional source: off while the source's quota is 0
    session: bool = False  # needs sessions: off where the log does not say what a session is
    spare: bool = False  # gained nothing where it was measured: off unless switched on by name

    @property
    def source(self) -> str:
        """The optional source that it is of; empty for other features."""
        return self.name.removesuffix("_rank") if self.optional else ""


FLAGS = ("dated", "text", "optional", "session", "spare")


def _family(family: str, *rows: tuple[str, str, str, str]) -> tuple[Feature, ...]:
    """Read rows of (name, unit, flags, meaning)."""
    return tuple(
        Feature(name, unit, meaning, family, *(flag in flags for flag in FLAGS))
        for name, unit, flags, meaning in rows
    )


CATALOGUE: tuple[Feature, ...] = (
    *_family(
        "user",
        ("user_events", "events", "", "events of the user before the request"),
        ("user_recent_items", "items", "", "distinct items among the events looked back on"),
        ("user_repeat_share", "share", "", "of those events, how many took an item again"),
        ("user_events_28d", "events", "dated", "events in the 28 days before the request"),
        ("user_decayed", "events", "dated spare", "what the user took, each halved every 30 days"),
        ("user_idle_days", "days", "dated", "since the user's last event"),
        ("user_age_days", "days", "dated", "since the user's first event"),
        ("user_gap_days", "days", "dated", "mean gap between the user's active days"),
        ("user_price", "price", "", "mean price the user paid"),
        (
            "user_session_items",
            "items",
            "session spare",
            "distinct items taken in the last session",
        ),
    ),
    *_family(
        "item",
        ("item_events", "events", "", "events of the item before the state's moment"),
        ("item_users", "users", "", "distinct users who took it"),
        ("item_repeat_share", "share", "", "of those users, how many took it at least twice"),
        ("item_negative_share", "share", "", "of its events, how many were shown-only or disliked"),
        ("item_conversion", "share", "", "of its events, those of grade 2 and more, shrunk"),
        ("item_taken_share", "share", "", "of its events, shown ones too, those taken, shrunk"),
        ("item_events_7d", "events", "dated", "events in the last 7 days"),
        ("item_events_28d", "events", "dated", "events in the last 28 days"),
        ("item_events_91d", "events", "dated", "events in the last 91 days"),
        ("item_decayed_7d", "events", "dated spare", "events, each halved every 7 days"),
        ("item_trend", "ratio", "dated", "events a day, last 7 days over last 91, smoothed"),
        ("item_popularity_share", "share", "", "of all decayed events, this item's, as a log10"),
        ("item_popularity_rank", "share", "", "place by recent popularity, 0 = most popular"),
        ("item_age_days", "days", "dated", "since the item's first event"),
        ("item_idle_days", "days", "dated", "since the item's last event"),
        ("item_price", "price", "", "catalogue price, or the mean price paid"),
        ("item_category_share", "share", "", "the item's share of its category's decayed events"),
        (
            "item_text_neighbours",
            "share",
            "text spare",
            "mean recent popularity of the 10 nearest other texts, as a log10",
        ),
        ("item_text_conversion", "share", "text spare", "mean `item_conversion` of these texts"),
    ),
    *_family(
        "pair",
        ("pair_events", "events", "", "times the user took the item before"),
        ("pair_negative", "events", "", "times the user was shown or disliked it"),
        ("pair_idle_days", "days", "dated", "since the user last took the item"),
        ("pair_back", "days or events", "", "days with a taken item (or events) since taking it"),
        ("pair_due", "ratio", "dated", "days since last taken over the user's mean gap for it"),
        ("pair_category_share", "share", "", "of the user's decayed events, in its category"),
        ("pair_category_back", "days or events", "", "since the user last took from its category"),
        (
            "pair_interest_place",
            "place",
            "spare",
            "of its category among the user's, 1 = most taken",
        ),
        (
            "pair_category_28d",
            "events",
            "dated spare",
            "taken from its category in the last 28 days",
        ),
        (
            "pair_category_91d",
            "events",
            "dated spare",
            "taken from its category in the last 91 days",
        ),
        ("pair_brand_share", "share", "", "of the user's decayed events, of its brand"),
        ("pair_brand_back", "days or events", "", "since the user last took from its brand"),
        ("pair_brand_28d", "events", "dated spare", "taken of its brand in the last 28 days"),
        ("pair_brand_91d", "events", "dated spare", "taken of its brand in the last 91 days"),
        ("pair_in_last_session", "yes or no", "session spare", "taken in the user's last session"),
        (
            "pair_last_session_category",
            "share",
            "session spare",
            "of the distinct items of that session, in its category",
        ),
        ("pair_price_ratio", "log ratio", "", "item price over the mean price the user paid"),
        ("pair_last_similarity", "cosine", "text", "tuned text of the item and of the last one"),
        ("pair_best_similarity", "cosine", "text", "tuned text, best match in the last items"),
        ("pair_best_frozen_similarity", "cosine", "text", "the same for the frozen encoder"),
    ),
    *_family(
        "source",
        ("interest", "cosine", "text", "interest score: fine-tuned user vector and item text"),
        ("interest_rank", "rank", "text", "its place among the candidates of the request"),
        ("frozen_interest", "cosine", "text", "the same for the frozen encoder"),
        ("frozen_interest_rank", "rank", "text", "its place among the candidates of the request"),
        ("lexical", "strength", "text", "words in common with what the user took, rare ones most"),
        ("lexical_rank", "rank", "text", "its place among the candidates of the request"),
        ("last_lexical", "cosine", "text", "words in common with the user's last item"),
        ("covisitation", "strength", "", "what is taken soon after what the user took"),
        ("covisitation_rank", "rank", "", "its place among the candidates of the request"),
        ("precedes", "strength", "", "what is taken soon before what the user took"),
        ("item_cosine", "strength", "", "items of the same users as what the user took"),
        ("item_cosine_rank", "rank", "", "its place among the candidates of the request"),
        ("ease", "weight", "", "EASE: what the user took, weighed together; common items only"),
        ("ease_rank", "rank", "", "its place among the candidates of the request"),
        ("last_covisitation", "strength", "", "what is taken soon after the user's last item"),
        ("last_ease", "weight", "", "EASE: what the user's last item says of it"),
        ("repeat", "events", "", "times the user took the item, decayed"),
        ("repeat_rank", "rank", "", "its place among the candidates of the request"),
        ("als", "score", "optional", "matrix factorisation: factors of user and item, multiplied"),
        ("als_rank", "rank", "optional", "its place among the candidates of the request"),
        (
            "category_popularity",
            "share",
            "optional",
            "the user's share of its category, times its recent share of the category",
        ),
        (
            "category_popularity_rank",
            "rank",
            "optional",
            "its place among the candidates of the request",
        ),
        ("fresh", "cosine", "text optional", "of new items the interest score plus 1, else 0"),
        ("fresh_rank", "rank", "text optional", "its place among the candidates of the request"),
        ("due", "a day", "optional", "how likely the user takes it again on this day (or event)"),
        ("due_rank", "rank", "optional", "its place among the candidates of the request"),
        ("sources", "sources", "", "how many sources not reading text found the item"),
    ),
)

SPARE = tuple(feature.name for feature in CATALOGUE if feature.spare)


def active_features(
    dated: bool,
    off: Collection[str] = (),
    with_text: bool = True,
    switched_on: Collection[str] = (),
    with_sessions: bool = False,
    on: Collection[str] = (),
) -> tuple[str, ...]:
    """Return the names of the features in use, in column order.

    Args:
        dated: whether the data has dates.
        off: features not to use.
        with_text: whether text may be read.
        switched_on: the optional sources in use; features of the others do not exist.
        with_sessions: whether the log says what a session is.
        on: spare features to use.

    Raises:
        ConfigError: `off` names a feature that does not exist, or `on` one that is not spare.
    """
    if unknown := sorted(set(off) - {feature.name for feature in CATALOGUE}):
        raise ConfigError(
            f"features.off: no feature is called {unknown[0]!r}; docs/features.md lists them all"
        )
    if unknown := sorted(set(on) - set(SPARE)):
        raise ConfigError(
            f"features.on: {unknown[0]!r} is no feature that has to be switched on; these are: "
            f"{', '.join(SPARE)}"
        )
    return tuple(
        feature.name
        for feature in CATALOGUE
        if feature.name not in off
        and (dated or not feature.dated)
        and (with_text or not feature.text)
        and (with_sessions or not feature.session)
        and (not feature.spare or feature.name in on)
        and (not feature.optional or feature.source in switched_on)
    )
