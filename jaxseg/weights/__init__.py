"""Weights from elsewhere: names and layouts of other frameworks turned into ours."""
