"""The folder /opt/sandbar."""
