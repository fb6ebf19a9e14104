"""Fast exact paths for experts and linear layers on a CPU."""
