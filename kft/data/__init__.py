"""What is trained on: `sources` read it, `splits` clean and cut it."""
