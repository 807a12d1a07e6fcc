"""A dry run says what the job would come to, counts what is done already, and makes nothing."""

import json

import pytest

from serving.batch import recommend
from serving.outlook import Outlook, outlook, told

CHAMPION = "models:/recommender@champion"


def silent(*_):
    """Show nothing."""


class Killed(Exception):
    """Stands for a kill in the middle of the job."""


def test_what_is_told_are_minutes_and_mebibytes():
    found = Outlook("r1", "models:/m/3", "2026-08-20", 1_234, 1_000, 12, 3, 2 * 60 + 7.4, 3 << 19)
    assert told(found) == [
        "would make release r1",
        "model models:/m/3, events before 2026-08-20",
        "1,234 users in 12 buckets; 3 parts are done, 1,000 users are left",
        "about 2 min 7 s for the lists that are left and 1.5 MiB for all, by a block of users; "
        "nothing was written",
    ]


@pytest.mark.slow
def test_an_outlook_makes_nothing_and_is_of_what_the_job_then_does(small_world, tmp_path):
    releases = tmp_path / "releases"
    serving = small_world.config.serving.model_copy(update={"releases": releases})
    config = small_world.config.model_copy(update={"serving": serving})
    before = outlook(config, CHAMPION, None, silent)
    assert not releases.exists()
    assert (before.users, before.left, before.done) == (60, 60, 0)
    assert before.seconds > 0

    def show(task, done, total, note):
        if task == "make lists" and done >= 30:
            raise Killed

    with pytest.raises(Killed):
        recommend(config, CHAMPION, None, show)
    [folder] = releases.iterdir()
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    middle = outlook(config, CHAMPION, None, silent)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == files
    assert middle.release == folder.name and middle.users == 60
    assert middle.done == len(list((folder / "done").iterdir())) > 0
    assert 0 < middle.left < 60
    assert recommend(config, CHAMPION, None, silent) == folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"]["users"] == before.users
    made = sum(path.stat().st_size for path in (folder / "lists").iterdir())
    assert before.bytes == pytest.approx(made, rel=0.5)  # parts are of other users
