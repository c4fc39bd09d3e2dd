"""SpaceSpec: what a config says about a space is read strictly, compared and printed."""

import json

import numpy as np
import pytest

from hf_latent_bridge import (
    LabelDecoder,
    LatentIndex,
    OrthoTranslator,
    SharedSpace,
    SpaceSpec,
    as_decoder,
    fit_head,
)
from hf_latent_bridge.errors import ConfigError

FULL = SpaceSpec(
    384,
    repo_id="me/encoder",
    revision="0123456789abcdef0123456789abcdef01234567",
    modality="text",
    pooling="mean",
    normalize=False,
    max_length=128,
)


@pytest.mark.parametrize("space", [FULL, SpaceSpec(1), SpaceSpec(3, normalize=True)])
def test_a_space_survives_json(space):
    assert SpaceSpec.from_dict(json.loads(json.dumps(space.to_dict()))) == space


def test_a_field_that_is_null_is_not_known():
    assert SpaceSpec.from_dict({"dim": 3, "pooling": None, "max_length": None}) == SpaceSpec(3)


def test_only_known_fields_are_written_and_false_is_known():
    assert SpaceSpec(3, normalize=False).to_dict() == {"dim": 3, "normalize": False}


@pytest.mark.parametrize("content", [None, [], "dim", 3, [["dim", 3]]])
def test_anything_but_an_object_is_refused(content):
    with pytest.raises(ConfigError, match="must be a JSON object with at least dim"):
        SpaceSpec.from_dict(content)


@pytest.mark.parametrize("dim", [None, 0, -3])
def test_a_width_that_is_missing_or_not_positive_is_refused(dim):
    with pytest.raises(ConfigError, match=f"dim must be a positive integer, got {dim}"):
        SpaceSpec.from_dict({"dim": dim})
    with pytest.raises(ConfigError, match="dim must be a positive integer, got None"):
        SpaceSpec.from_dict({"repo_id": "me/encoder"})


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("dim", True, "int"),
        ("dim", 3.0, "int"),
        ("dim", "3", "int"),
        ("max_length", False, "int"),
        ("normalize", 1, "bool"),
        ("normalize", "true", "bool"),
        ("repo_id", 7, "str"),
        ("revision", ["main"], "str"),
        ("pooling", True, "str"),
        ("modality", {}, "str"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(field, value, kind):
    with pytest.raises(ConfigError, match=f"a space's {field} must be {kind}, got "):
        SpaceSpec.from_dict({"dim": 3, field: value})
    with pytest.raises(ValueError, match=f"a space's {field} must be {kind}, got "):
        SpaceSpec(**{"dim": 3, field: value})


@pytest.mark.parametrize("max_length", [0, -1])
def test_a_length_that_is_not_positive_is_refused(max_length):
    with pytest.raises(ConfigError, match=f"max_length must be .*positive.*, got {max_length}"):
        SpaceSpec.from_dict({"dim": 3, "max_length": max_length})


def test_an_unknown_field_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"unknown fields \['width'\]"):
        SpaceSpec.from_dict({"dim": 3, "width": 3})


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("dim", 768),
        ("repo_id", "you/encoder"),
        ("revision", "f" * 40),
        ("modality", "image"),
        ("pooling", "cls"),
        ("normalize", True),
    ],
)
def test_a_field_that_differs_is_named_with_both_values(field, other):
    different = SpaceSpec(**{**FULL.to_dict(), field: other})
    assert FULL.mismatches(different) == [f"{field}: {getattr(FULL, field)!r} and {other!r}"]


def test_folders_of_one_repo_differ_and_its_root_is_one_of_them():
    root, one, other = (SpaceSpec(3, "me/encoder", subfolder=name) for name in (None, "a", "b"))
    assert root.mismatches(root) == one.mismatches(one) == one.mismatches(SpaceSpec(3)) == []
    assert root.mismatches(one) == ["subfolder: '' and 'a'"]
    assert one.mismatches(other) == ["subfolder: 'a' and 'b'"]


def test_a_shared_space_is_that_of_no_named_encoder():
    one, other = (SpaceSpec(3, revision=r * 40, pooling="shared", normalize=True) for r in "ab")
    named, unknown = SpaceSpec(3, "me/encoder"), SpaceSpec(3)
    assert one.mismatches(named) == ["repo_id: 'a shared space' and 'me/encoder'"]
    assert named.mismatches(one) == ["repo_id: 'me/encoder' and 'a shared space'"]
    assert one.mismatches(one) == one.mismatches(unknown) == unknown.mismatches(one) == []
    assert one.mismatches(other) == [f"revision: {'a' * 40!r} and {'b' * 40!r}"]


def test_unknown_fields_and_the_length_do_not_make_a_mismatch():
    assert FULL.mismatches(SpaceSpec(384)) == SpaceSpec(384).mismatches(FULL) == []
    assert FULL.mismatches(SpaceSpec(**{**FULL.to_dict(), "max_length": 5})) == []


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (FULL, "me/encoder@0123456 (dim=384, mean pooling)"),
        (SpaceSpec(3, "me/encoder", normalize=True), "me/encoder (dim=3, unit norm)"),
        (SpaceSpec(3), "an encoder of unknown name (dim=3)"),
        (
            SpaceSpec(3, revision="0123456789", pooling="shared", normalize=True),
            "a shared space@0123456 (dim=3, unit norm)",
        ),
    ],
)
def test_a_space_prints_as_one_short_line(space, text):
    assert str(space) == text


X = np.random.default_rng(0).normal(size=(40, 4))


@pytest.mark.parametrize(
    "build",
    [
        lambda space: OrthoTranslator().fit(X, X, source=space),
        lambda space: OrthoTranslator().fit(X, X).record_spaces(SpaceSpec(4), space),
        lambda space: SharedSpace().fit({"a": X, "b": X}, spaces={"a": space}),
        lambda space: LatentIndex(X, list(range(40)), space),
        lambda space: LatentIndex.from_latents(X, list(range(40)), space=space),
        lambda space: LabelDecoder(X[:2], ["a", "b"], space),
        lambda space: fit_head(X, [0, 1] * 20, space=space),
        lambda space: as_decoder(len, space),
    ],
)
def test_a_name_in_place_of_a_space_is_refused_with_advice(build):
    with pytest.raises(TypeError, match=r"a space is SpaceSpec\(dim, .*, got str 'me/encoder'"):
        build("me/encoder")


def test_an_index_of_an_unknown_space_takes_the_width_of_its_vectors():
    assert LatentIndex(X, list(range(40)), None).space == SpaceSpec(4)
