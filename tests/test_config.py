"""`config.json` is read strictly and written so that it can be read."""

import pytest

from hf_latent_bridge import SpaceSpec
from hf_latent_bridge.errors import ConfigError, FormatVersionError, LatentBridgeError
from hf_latent_bridge.translators.base import TranslatorConfig


@pytest.fixture
def content():
    """What a config file holds."""
    return {
        "format_version": 1,
        "library_version": "0.1.0",
        "translator_type": "ortho",
        "params": {"scaling": "center"},
        "source": {"dim": 3, "repo_id": "alice/a"},
        "target": {"dim": 2},
        "dataset": {},
        "n_pairs": 10,
        "metrics": {},
        "weights_sha256": "0" * 64,
    }


def test_a_config_is_read_into_its_fields(content):
    config = TranslatorConfig.from_dict(content)
    assert config.translator_type == "ortho"
    assert config.params == {"scaling": "center"}
    assert config.source == SpaceSpec(3, repo_id="alice/a")
    assert config.target == SpaceSpec(2)
    assert config.n_pairs == 10


def test_what_is_written_is_what_was_read(content):
    written = TranslatorConfig.from_dict(content).to_dict()
    assert written | {"weights_sha256": "0" * 64} == content


def test_the_hash_of_the_weights_is_left_to_the_save(content):
    assert "weights_sha256" not in TranslatorConfig.from_dict(content).to_dict()


@pytest.mark.parametrize(
    "field",
    [
        "library_version",
        "translator_type",
        "params",
        "source",
        "target",
        "dataset",
        "n_pairs",
        "metrics",
        "weights_sha256",
    ],
)
def test_each_missing_field_is_named(content, field):
    del content[field]
    with pytest.raises(ConfigError, match=rf"missing fields \['{field}'\]"):
        TranslatorConfig.from_dict(content)


def test_an_unknown_field_is_named(content):
    with pytest.raises(ConfigError, match=r"unknown fields \['auto_map'\]"):
        TranslatorConfig.from_dict(content | {"auto_map": "evil.py"})


@pytest.mark.parametrize("other", [{"model_type": "bert"}, {"decoder_type": "index"}])
def test_a_config_of_something_else_is_told_apart(other):
    ((key, value),) = other.items()
    with pytest.raises(ConfigError, match=rf"not a translator's, for it states {key} '{value}'"):
        TranslatorConfig.from_dict(other)


def test_a_format_from_the_future_asks_for_an_upgrade(content):
    with pytest.raises(FormatVersionError, match=r"format_version 2.*pip install -U"):
        TranslatorConfig.from_dict(content | {"format_version": 2, "news": 1})


@pytest.mark.parametrize("version", [True, 0, -1, 1.0, "1", [1]])
def test_a_format_version_that_never_was_is_refused(content, version):
    with pytest.raises(ConfigError, match="format_version must be 1 or more"):
        TranslatorConfig.from_dict(content | {"format_version": version})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("translator_type", 3),
        ("translator_type", None),
        ("params", []),
        ("source", "alice/a"),
        ("dataset", None),
        ("n_pairs", "10"),
        ("n_pairs", 10.0),
        ("n_pairs", True),
        ("metrics", "good"),
        ("weights_sha256", 0),
    ],
)
def test_a_field_of_the_wrong_type_is_named(content, field, value):
    with pytest.raises(ConfigError, match=f"{field} must be"):
        TranslatorConfig.from_dict(content | {field: value})


@pytest.mark.parametrize("n_pairs", [0, -5])
def test_no_pairs_are_refused(content, n_pairs):
    with pytest.raises(ConfigError, match="n_pairs must be at least 1"):
        TranslatorConfig.from_dict(content | {"n_pairs": n_pairs})


@pytest.mark.parametrize(
    ("space", "telling"),
    [
        ({}, "dim"),
        ({"dim": 0}, "dim"),
        ({"dim": 2.0}, "dim"),
        ({"dim": True}, "dim"),
        ({"dim": 2, "class": "os.system"}, "class"),
        ({"dim": 2, "revision": 7}, "revision"),
    ],
)
def test_a_space_that_is_none_is_refused(content, space, telling):
    with pytest.raises(ConfigError, match=telling):
        TranslatorConfig.from_dict(content | {"target": space})


def test_each_refusal_is_also_a_value_error():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(FormatVersionError, ConfigError)
    assert issubclass(ConfigError, LatentBridgeError)
