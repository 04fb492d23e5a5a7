"""What a sandbox is and what may happen to it. Standard library only; knows neither AWS nor any dialect."""
