"""A key lets in its holder and nobody else, and what is kept of it lets in nobody."""

import hashlib
import stat

import pytest

from serving.access import add_key, key_name, load_keys, new_key, refuse_open_door
from serving.errors import ServingError


def test_a_new_key_is_let_in_by_its_entry_alone(tmp_path):
    file = tmp_path / "new" / "keys"
    made = {name: new_key(name) for name in ("web", "app")}
    for _, entry in made.values():
        add_key(file, entry)
    keys = load_keys(file)
    assert {name: key_name(keys, key.encode()) for name, (key, _) in made.items()} == {
        "web": "web", "app": "app",
    }  # fmt: skip
    for _, entry in made.values():
        for kept in (entry, entry.partition(":")[2], "", "rk_"):
            assert key_name(keys, kept.encode()) is None


def test_keys_are_drawn_anew_and_the_file_is_for_its_owner_alone(tmp_path):
    assert new_key("web")[0] != new_key("web")[0]
    add_key(tmp_path / "keys", new_key("web")[1])
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600
    assert new_key("web")[0] not in (tmp_path / "keys").read_text()


def test_file_and_environment_are_read_with_comments_and_commas(tmp_path):
    hashes = [hashlib.sha256(key).hexdigest() for key in (b"a", b"b", b"c")]
    (tmp_path / "keys").write_text(f"# of the shop\nweb:{hashes[0]}  # old\n\nweb:{hashes[1]}\n")
    keys = load_keys(tmp_path / "keys", f" app:{hashes[2]},app:{hashes[0]} ")
    assert [key.name for key in keys] == ["web", "web", "app", "app"]
    assert [key_name(keys, key) for key in (b"b", b"c", b"d")] == ["web", "app", None]
    assert load_keys(None) == ()


def test_what_is_no_entry_is_refused_without_repeating_it(tmp_path):
    (tmp_path / "keys").write_text("rk_a-key-in-plain\n")
    with pytest.raises(ServingError, match="an entry is no key") as error:
        load_keys(tmp_path / "keys")
    assert "rk_a-key" not in str(error.value)
    with pytest.raises(ServingError, match="RECSYS_API_KEYS: an entry is no key"):
        load_keys(None, "web:123")
    with pytest.raises(ServingError, match="cannot be read"):
        load_keys(tmp_path / "nowhere")
    with pytest.raises(ServingError, match="the name of a key"):
        new_key("a b")


def test_without_keys_only_this_machine_may_ask():
    _, entry = new_key("web")
    keys = load_keys(None, entry)
    for host in ("127.0.0.1", "::1", "localhost"):
        refuse_open_door(host, (), False)
    for host in ("0.0.0.0", "::", "192.168.1.7", "shop.example"):
        refuse_open_door(host, keys, False)
        refuse_open_door(host, (), True)
        with pytest.raises(ServingError, match="can be reached from other machines"):
            refuse_open_door(host, (), False)
