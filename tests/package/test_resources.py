"""Presets and recordings are found from any folder, by name."""

from pathlib import Path

import pytest
import yaml

from jaxdodge import resources
from jaxdodge.fields import ConfigError


@pytest.mark.parametrize("folder", ["", "studies", "original"])
def test_every_preset_of_a_folder_is_a_mapping(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = resources.presets(folder)
    assert len(names) >= 7
    for name in names:
        assert isinstance(yaml.safe_load(resources.preset(name, folder).read_text()), dict)


def test_a_users_file_wins_over_the_preset_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resources.preset("angle60") != tmp_path / "angle60"
    (tmp_path / "angle60").write_text("level: 2\n")
    assert resources.preset("angle60").samefile(tmp_path / "angle60")
    assert resources.preset(tmp_path / "angle60") == tmp_path / "angle60"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("angle6", "angle6: no such file or preset; did you mean angle60?"),
        ("zzz", "zzz: no such file or preset; expected a YAML file or one of angle180, "),
        ("", ": no such file or preset; expected a YAML file or one of "),
    ],
)
def test_a_name_of_nothing_is_an_error_of_one_line(name, message):
    with pytest.raises(ConfigError) as raised:
        resources.preset(name)
    assert f"{raised.value}".startswith(message)
    assert "\n" not in f"{raised.value}"


@pytest.mark.parametrize("name", ["absent.yaml", "folder/angle60", "../angle60"])
def test_a_path_is_left_to_whoever_reads_it(name):
    assert resources.preset(name) == Path(name)


def test_the_recordings_are_found_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(list(resources.recordings().glob("*.npz"))) >= 38
