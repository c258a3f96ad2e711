"""What this machine can do, and what to install to do more."""
