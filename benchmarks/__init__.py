"""What things take, each beside its peers and its floor in the same run. `python -m benchmarks [exec|create|transfer ...]`."""
