"""Measurements of pyquant beside other libraries and beside the machine's own limits."""
