"""The later sections of a run's page: every metric has its words, every number its place."""

from pipelines.listsections import BEYOND, GLOSSARY, beyond, cost, glossary
from pipelines.runpage import ACCURACY


def test_every_metric_of_accuracy_is_explained():
    [grid] = glossary().grids
    assert grid.rows == GLOSSARY and all(what for _, what in GLOSSARY)
    words = " ".join(f"{name} {what}" for name, what in GLOSSARY)
    assert all(name in words for name in ACCURACY.values())


def test_every_metric_beyond_accuracy_is_explained_above_its_table():
    values = dict.fromkeys(BEYOND, 0.25)
    section = beyond({"models": {"full": {"test": values}}})
    assert section.grids[0].rows == (("full", *["0.2500"] * len(BEYOND)),)
    said = section.notes[0].lower()
    assert all(f"{name.partition(',')[0].lower()}:" in said for name in BEYOND.values())


def test_costs_add_up():
    stages = {"prepare": 1.0, "encoder": 2.5}
    section = cost({"seconds": stages, "peak_memory_bytes": {"prepare": 2**30, "encoder": 2**31}})
    assert section.notes == ("4 s in all, 2.00 GiB at most.",)
    assert section.grids[0].rows[1] == ("encoder", "2.5", "2.00")
