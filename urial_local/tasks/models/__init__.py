"""Models of others: fetched, checked against what vouches for them, described."""
