"""Science of one chapter each, that the core of the module does not need."""
