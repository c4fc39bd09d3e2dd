"""Without an extra, whatever needs it names the pip command before it does anything else."""

import json
import os

import pytest
import warm

from hf_latent_bridge.errors import LatentBridgeError, MissingExtraError
from hf_latent_bridge.extras import require

# A Hub that refuses every connection: a call that asks it first fails with another error.
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
SCRIPT = """
import json, sys, warnings

warnings.simplefilter("ignore")

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import numpy as np
import hf_latent_bridge as bridge
from hf_latent_bridge.errors import MissingExtraError

x = np.eye(3)
encoder = lambda items: np.ones((len(items), 2))
answers = {}
for code in CALLS:
    try:
        eval(code)
        answers[code] = "no error"
    except MissingExtraError as error:
        answers[code] = str(error)
    except Exception as error:
        answers[code] = f"{type(error).__name__}: {error}"
print(json.dumps(answers))
"""
CALLS = {
    "encoders": (
        ["transformers", "sentence_transformers", "datasets", "accelerate", "PIL", "sklearn"],
        [
            "bridge.load_encoder('me/encoder')",
            "bridge.load_pairs('me/data', split='train', source='text')",
            "bridge.split_classifier('me/classifier')",
            "bridge.to_sentence_transformer(encoder, None)",
            "bridge.fit_head(x, [0, 1, 0])",
            "bridge.load_decoder('FOLDER')",
            "bridge.fit_autoencoder([b'picture'])",
            "bridge.fit_translator(bridge.OrthoTranslator(), None, None, (x, x))",
            "bridge.as_decoder(type('Estimator', (), {'predict': 1, 'get_params': 1})())",
        ],
    ),
    "hdf5": (["h5py"], ["bridge.load_pairs(['FOLDER/a.h5', 'FOLDER/a.h5'])"]),
    "index": (
        ["faiss"],
        ["bridge.LatentIndex.from_latents(x, [1], search='faiss')"],
    ),
}


def answers_without(modules, calls, **environment):
    """What each call raises in a process that cannot import the modules."""
    script = SCRIPT.replace("BLOCKED", repr(modules)).replace("CALLS", repr(calls))
    environment = os.environ | NO_HUB | environment
    return json.loads(warm.finished("-c", script, env=environment, loaded=warm.BASE).stdout)


@pytest.mark.slow
def test_each_call_names_its_extra_before_it_asks_the_hub(tmp_path):
    """Also one that needs it for several processes alone, as these are one of two."""
    (tmp_path / "a.h5").write_bytes(b"")
    config = {"architectures": ["BertForSequenceClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    blocked = [module for modules, _ in CALLS.values() for module in modules]
    extras = {
        call.replace("FOLDER", str(tmp_path)): extra
        for extra, (_, calls) in CALLS.items()
        for call in calls
    }
    for code, answer in answers_without(blocked, list(extras), WORLD_SIZE="2").items():
        assert f'pip install "hf-latent-bridge[{extras[code]}]"' in answer, (code, answer)


def test_what_is_installed_is_let_through_and_the_error_is_an_import_error():
    require("encoders", "json", "os", purpose="this test")
    with pytest.raises(
        ImportError, match=r"this test needs nowhere_to_be_found: pip install"
    ) as info:
        require("encoders", "json", "nowhere_to_be_found", purpose="this test")
    assert isinstance(info.value, MissingExtraError | LatentBridgeError)
