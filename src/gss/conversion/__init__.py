"""Weights that others publish, read without executing anything in them, and written as safetensors."""
