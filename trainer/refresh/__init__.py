"""New, changed and removed items without training: what a version keeps for it, and the command."""
