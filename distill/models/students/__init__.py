"""Students: small encoders that answer in milliseconds."""
