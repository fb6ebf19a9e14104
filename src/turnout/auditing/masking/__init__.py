"""What a committee is worth: masked and asked again, against matched controls."""
