"""What the scripts that repeat the paper's experiments share.

Nothing here imports `hf_latent_bridge` before it is used: huggingface_hub, which it brings, reads
the address of the Hub when it is imported, so the embedded Hub has to be up by then.
"""
