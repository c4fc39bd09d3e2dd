"""Sounds as a modality: all that has to be written to encode, cache, pair and split them.

An item is a mapping of "array" (samples between -1 and 1) and "sampling_rate".
"""

import functools
import hashlib
import wave

import numpy as np
import torch
from tiny_models import new_folder, push_folder

from hf_latent_bridge.encoders.modality import Modality
from hf_latent_bridge.encoders.model import ModelEncoder, Preparer
from hf_latent_bridge.encoders.strict_load import quiet_load
from hf_latent_bridge.errors import InvalidPairsError

RATE = 16_000


class SoundEncoder(ModelEncoder):
    """A transformers audio model, averaged over time."""

    def _latents(self, inputs):
        return self.model(**inputs).last_hidden_state.mean(1)


class Audio(Modality):
    name = "audio"
    poolings = ("mean",)
    main_inputs = ("input_values",)
    suffixes = (".wav",)
    classifier = "AutoModelForAudioClassification"

    def recognises(self, item):
        return isinstance(item, dict) and "array" in item

    def check(self, items):
        for row, item in enumerate(items):
            if not self.recognises(item):
                raise InvalidPairsError(f"item {row} must be a sound, got {type(item).__name__}")
        return list(items)

    def decode(self, item, row):
        if item["sampling_rate"] != RATE:
            raise InvalidPairsError(f"item {row} must be sampled at {RATE} Hz")
        return item

    def digest(self, item):
        content = np.asarray(item["array"], np.float32).tobytes()
        return hashlib.blake2b(content, digest_size=16).digest()

    def read_file(self, path):
        if path.suffix.lower() not in self.suffixes:
            return super().read_file(path)
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            return [{"array": samples.astype(np.float32) / 2**15, "sampling_rate": RATE}]

    def size(self, item, row=0):
        return len(item["array"])

    def flaw(self, item):
        return None if len(item["array"]) else "is an empty sound"

    def examples(self):
        return [sound(2000, seed=0), sound(1500, seed=1)]

    def preparer(self, options, config):
        from transformers import AutoFeatureExtractor

        extractor = AutoFeatureExtractor.from_pretrained(options.name, **options.common)

        def prepare(sounds):
            arrays = [item["array"] for item in sounds]
            return extractor(arrays, sampling_rate=RATE, return_tensors="pt")

        # one at a time, for sounds differ in length
        return Preparer(
            self.check, lambda items, _, device: self.batches(items, prepare, 1, device)
        )

    def load(self, options):
        from transformers import AutoModel

        with quiet_load(options.name):
            model = AutoModel.from_pretrained(options.name, **options.common)
            preparer = self.preparer(options, model.config)
        space = options.space(self.name, "mean", None)
        encoder = SoundEncoder(model.to(options.device).eval(), preparer, space, options)
        return encoder._measured(self.examples()[0])


def sound(samples, *, seed):
    array = np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)
    return {"array": array, "sampling_rate": RATE}


CONFIG = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIG |= {"intermediate_size": 16, "conv_dim": (8, 8), "conv_stride": (5, 2)}
CONFIG |= {"conv_kernel": (10, 3), "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4}
CONFIG |= {"num_conv_pos_embedding_groups": 2, "classifier_proj_size": 6}


@functools.cache
def model():
    """A random wav2vec 2.0."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    return Wav2Vec2Model(Wav2Vec2Config(**CONFIG)).eval()


@functools.cache
def repo():
    """The same as a repo with its feature extractor; returns its id."""
    return published(model(), "alice/tiny-wav2vec2")


def published(model, repo_id):
    from transformers import Wav2Vec2FeatureExtractor

    folder = new_folder()
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=RATE).save_pretrained(folder)
    return push_folder(folder, repo_id)
