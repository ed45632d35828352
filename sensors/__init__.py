"""What reacts. Empty for now: landing, freshness, drift, promotion and failure sensors come to stand here."""
