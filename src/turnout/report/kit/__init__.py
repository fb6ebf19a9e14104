"""Shared parts of pages, terminal tables and paper figures."""
