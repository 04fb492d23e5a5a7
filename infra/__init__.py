"""What is deployed: templates, workflows and images."""
