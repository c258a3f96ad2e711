"""Experiments over a pair: one model goes on after the other's tokens, or takes some of them."""
