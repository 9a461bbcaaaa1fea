"""Networks of populations and projections: what they are, and what can be computed from them."""
