"""What the commands do, from their input to a published version: `run`, `index` and `refresh`."""
