"""Public checkpoints: read without executing anything in them, recognised, renamed, made packs."""
