"""From items to latents: encoders by modality; importing this registers text and images."""

from hf_latent_bridge.encoders.image import IMAGE as IMAGE
from hf_latent_bridge.encoders.text import TEXT as TEXT
