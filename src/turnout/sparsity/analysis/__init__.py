"""What a sweep's runs say together: is it U-shaped, where is the optimum, what loss does not explain."""
