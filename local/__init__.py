"""One machine: starts the stores, the stand-in for AWS, a container engine and the edge, and deploys the same template."""
