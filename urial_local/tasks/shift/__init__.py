"""Token distribution shift: what alignment changed, token by token (arXiv 2312.01552, §2)."""
