"""From latents to what was built on them: heads, indexes, labels, and any callable."""
