"""Makes what the Space loads out of datasets and encoders on the Hub, and publishes it there."""
