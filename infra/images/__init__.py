"""What sandboxes boot from: the default image and the folder that makes any image a sandbox's."""
