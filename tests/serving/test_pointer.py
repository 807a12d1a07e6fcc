"""The pointer is what was written last, or damaged and said to be."""

import pytest

from serving.errors import ServingError, StoreBusyError
from serving.pointer import locked, parse_pointer, pointer_bytes, read_pointer, write_pointer


def test_the_pointer_is_what_was_written_last(tmp_path):
    assert read_pointer(tmp_path) is None and pointer_bytes(tmp_path) is None
    write_pointer(tmp_path, "r1", [])
    write_pointer(tmp_path, "r2", ["r1"])
    pointer = read_pointer(tmp_path)
    assert (pointer.release_id, pointer.previous) == ("r2", ("r1",))
    assert pointer == parse_pointer("here", pointer_bytes(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["current.json"]


@pytest.mark.parametrize("found", ["{", '{"release_id": "../r1", "previous": []}', "[]", ""])
def test_a_damaged_pointer_says_where_it_is(tmp_path, found):
    (tmp_path / "current.json").write_text(found)
    with pytest.raises(ServingError, match=r"current\.json is damaged"):
        read_pointer(tmp_path)


def test_a_lock_is_held_by_one_and_free_again_after_it(tmp_path):
    store = tmp_path / "store"
    with locked(store, "switch"):
        with pytest.raises(StoreBusyError, match="switch"), locked(store, "switch"):
            pass
        with locked(store, "publish"):  # another lock
            pass
    with locked(store, "switch"):
        pass
