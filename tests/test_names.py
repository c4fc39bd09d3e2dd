"""An empty name is refused wherever a file or folder is named: it is not the current folder."""

import numpy as np
import pytest

from hf_latent_bridge import (
    CachedEncoder,
    OrthoTranslator,
    cache_info,
    clear_cache,
    fit_translator,
    load_moments,
    load_pairs,
    save_moments,
    translate_file,
)
from hf_latent_bridge.errors import InvalidNameError
from hf_latent_bridge.names import without_secrets

X = np.random.default_rng(0).normal(size=(40, 3))


def fitted():
    return OrthoTranslator().fit(X, X)


def fit(**options):
    return fit_translator(OrthoTranslator(), None, None, load_pairs((X, X)), **options)


CALLS = {
    "load_pairs": lambda name: load_pairs((name.strip(), "x.npy")),
    "translate_file": lambda name: translate_file(fitted(), name, "out.npy"),
    "save_moments": lambda name: save_moments(fitted().moments_, name),
    "load_moments": load_moments,
    "cache_info": cache_info,
    "clear_cache": clear_cache,
    "CachedEncoder": lambda name: CachedEncoder(None, name),
    "bad_rows_file": lambda name: fit(on_bad_row="skip", bad_rows_file=name),
    "checkpoint_dir": lambda name: fit(checkpoint_dir=name),
}


@pytest.mark.parametrize("name", ["", "  "])
@pytest.mark.parametrize("call", CALLS)
def test_an_empty_name_is_refused(call, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    with pytest.raises(InvalidNameError, match="got an empty text"):
        CALLS[call](name)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize("user", ["", "me@", "me:secret@", "me:p@secret@", ":secret@"])
def test_a_password_in_an_address_is_never_shown(user):
    shown = without_secrets(f"see postgresql://{user}host:1/db?password=secret and the rest")
    assert shown == "see postgresql://host:1/db and the rest"
