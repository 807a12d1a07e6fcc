import pyarrow as pa
import pytest
from pydantic import ValidationError

from recsys.errors import SchemaError
from recsys.schema import (
    ERRORS,
    REQUIRED,
    SYNONYMS,
    TABLES,
    WARNINGS,
    DataConfig,
    EventRule,
    Fault,
    check_tables,
    match_columns,
    match_event_types,
    text_columns,
)


def schema(*names, kind=None):
    return pa.schema([(name, kind or pa.string()) for name in names])


def test_the_tables_of_columns_agree():
    for names in (REQUIRED, SYNONYMS):
        assert names.keys() == TABLES.keys()
        assert all(set(names[table]) <= set(TABLES[table]) for table in names)
    assert not ERRORS.keys() & WARNINGS.keys()


def test_a_mapped_name_wins_over_the_same_name_and_that_over_a_synonym():
    config = DataConfig(columns={"items": {"title": "label"}})
    columns, faults = match_columns(
        "items", schema("item_id", "title", "label", "brand", "author", "genres", "genre"), config
    )
    assert columns == {
        "item_id": "item_id",
        "title": "label",
        "brand": "brand",
        "category": "genre",
    }
    assert not faults


def test_a_missing_column_names_the_nearest():
    _, [fault] = match_columns("events", schema("user", "item_id"), DataConfig())
    assert (fault.kind, fault.column) == ("is missing", "user_id")
    assert "nearest 'user'" in fault.example


def test_a_mapped_column_must_be_there():
    config = DataConfig(columns={"items": {"brand": "maker"}})
    _, [fault] = match_columns("items", schema("item_id", "title", "brand"), config)
    assert (fault.kind, fault.column) == ("is missing", "brand")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("user_id", pa.float64()), ("timestamp", pa.int64()), ("price", pa.list_(pa.float64()))],
)
def test_a_column_of_the_wrong_type_is_a_fault(name, kind):
    given = schema("user_id", "item_id").append(pa.field("x", kind))
    config = DataConfig(columns={"events": {name: "x"}})
    _, [fault] = match_columns("events", given, config)
    assert (fault.kind, fault.column) == ("has the wrong type", name)
    assert str(kind) in fault.example


def test_text_is_the_given_columns_in_order_or_what_is_there():
    given = schema("item_id", "title", "genre", "tags")
    columns, _ = match_columns("items", given, DataConfig())
    assert text_columns(DataConfig(), columns, given) == (["title", "genre"], [])
    config = DataConfig(text=("tags", "category", "title"))
    assert text_columns(config, columns, given) == (["tags", "genre", "title"], [])
    _, [fault] = text_columns(DataConfig(text=("blurb",)), columns, given)
    assert (fault.kind, fault.column) == ("is missing", "blurb")


def test_one_rule_is_a_list_of_one_rule():
    config = DataConfig(
        event_types={"view": {"grade": 1}, "rating": [{"grade": 2, "min_value": 4}]}
    )
    assert config.event_types["view"] == (EventRule(grade=1, weight=1.0, min_value=None),)
    assert config.event_types["rating"][0].min_value == 4.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"evnts": "x"}, "evnts"),
        ({"event_types": {"view": {"grade": -1}}}, "greater than or equal to 0"),
        ({"event_types": {"view": {"grade": 1, "min": 3}}}, "min"),
        ({"columns": {"events": {"user": "x"}}}, "did you mean 'user_id'"),
        ({"memory_limit": "much"}, "memory_limit"),
        ({"bucket_rows": 0}, "bucket_rows"),
    ],
)
def test_a_wrong_setting_is_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        DataConfig.model_validate(wrong)


def test_every_type_needs_a_rule_once_there_are_rules():
    config = DataConfig(event_types={"buy": {"grade": 2}})
    columns = {"event_type": "event_type"}
    [fault] = match_event_types({"buy": 5, "view": 3, "shown": 4}, columns, config)
    assert (fault.kind, fault.rows) == ("has types without a grade", 3 + 4)
    assert fault.example == "shown, view"
    assert not match_event_types({"buy": 5}, columns, config)


def test_types_without_any_rule_are_one_warning():
    [fault] = match_event_types({"buy": 5, "view": 3}, {"event_type": "e"}, DataConfig())
    assert (fault.kind in WARNINGS, fault.rows, fault.example) == (True, 8, "buy, view")
    assert not match_event_types({"event": 8}, {}, DataConfig())  # no such column: nothing to say


def test_a_threshold_needs_a_value():
    config = DataConfig(event_types={"rating": {"grade": 1, "min_value": 3}})
    [fault] = match_event_types({"rating": 1}, {"event_type": "event_type"}, config)
    assert fault.kind == "is compared by data.event_types but missing"


def test_all_errors_are_in_one_message_with_a_line_each():
    faults = [
        Fault("has no id", "events", "user_id", 3, "item_id=7"),
        Fault("has no time", "events", "timestamp", 2, "u"),
        Fault("cannot be read", "items", example="no such file"),
    ]
    with pytest.raises(SchemaError) as error:
        check_tables(faults, {"events": "e.csv", "items": "i.csv"})
    assert str(error.value).splitlines() == [
        "the input has 2 problems:",
        "events (e.csv), column user_id: has no id in 3 rows (e.g. item_id=7); "
        "remove these rows or fill in the id",
        "items (i.csv): cannot be read (no such file); check the path and the file",
    ]


def test_warnings_alone_are_returned():
    warnings = check_tables([Fault("has no time", "events", "timestamp", 1, "u")], {"events": "e"})
    assert warnings == ["events (e), column timestamp: has no time in 1 row (e.g. u); dropped"]
