"""Two runs or more side by side: what differs, with intervals, and which experts they have in common."""
