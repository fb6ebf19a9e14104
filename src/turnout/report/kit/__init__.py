"""What all pages and terminal tables are built of: one page as a file, text cells, scripts, PNG."""
