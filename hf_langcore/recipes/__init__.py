"""End-to-end experiments as plain functions."""
