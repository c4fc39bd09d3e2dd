"""Makes the repos that the Space loads out of datasets and encoders on the Hub."""
